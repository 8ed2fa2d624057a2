"""A client that gives up early: while a server is silent, calls fail at once.

A call that gets no answer within the client's timeout fails, and from then on every call to that
server does, without waiting, until it answers a probe. In a cluster this is so for each node.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.valkey.connect import RETRY_AFTER_SECONDS, Client, Refused, Script

T = TypeVar("T")

PROBE_SECONDS = 0.1
"""How often a silent server is tried."""


class Circuit:
    """Which servers are silent, known to all clients that share it."""

    def __init__(self) -> None:
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def any_open(self) -> bool:
        """Whether some server is silent."""
        return bool(self._probes)

    def is_open(self, place: str) -> bool:
        """Whether calls to a server are not worth trying."""
        return place in self._probes

    def open(self, place: str, client: Client, key: str | None) -> None:
        """Fail calls to a server until it answers."""
        if place not in self._probes and not self._closed:
            self._probes[place] = asyncio.create_task(self._probe(place, client, key))

    async def close(self) -> None:
        """End the probes; no others begin."""
        self._closed = True
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    async def _probe(self, place: str, client: Client, key: str | None) -> None:
        try:
            while True:
                await asyncio.sleep(PROBE_SECONDS)
                try:
                    await (client.ping() if key is None else client.get(f"{key}:probe"))
                except Unavailable:
                    continue
                return
        finally:
            del self._probes[place]


class ImpatientClient:
    """`Client` with a circuit.

    Args:
        client: whose timeout is how long a call may take.
        circuit: of all clients of the same servers.
    """

    def __init__(self, client: Client, circuit: Circuit) -> None:
        self._client = client
        self._circuit = circuit

    async def get(self, key: str) -> bytes | None:
        """See `Client`."""
        return await self._guard(key, partial(self._client.get, key))

    async def set(self, key: str, value: bytes, *, px: int | None = None, nx: bool = False) -> bool:
        """See `Client`."""
        return await self._guard(key, partial(self._client.set, key, value, px=px, nx=nx))

    async def delete(self, *keys: str) -> int:
        """See `Client`."""
        return await self._guard(next(iter(keys), None), partial(self._client.delete, *keys))

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[bytes | int]) -> Any:
        """See `Client`."""
        ask = partial(self._client.run, script, keys, args)
        return await self._guard(next(iter(keys), None), ask)

    def command(self, key: str | None, *words: str | bytes | int) -> Coroutine[Any, Any, Any]:
        """See `Client`."""
        return self._guard(key, partial(self._client.command, key, *words))

    def scan(self, pattern: str) -> AsyncGenerator[list[str]]:
        """See `Client`; nobody in a hurry scans, so it is not guarded."""
        return self._client.scan(pattern)

    async def ping(self) -> None:
        """See `Client`."""
        await self._guard(None, self._client.ping)

    def place(self, key: str | None) -> str:
        """See `Client`."""
        return self._client.place(key)

    @property
    def clustered(self) -> bool:
        """See `Client`."""
        return self._client.clustered

    async def close(self) -> None:
        """See `Client`."""
        await self._circuit.close()
        await self._client.close()

    async def _guard(self, key: str | None, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        # Nearly always none is silent, and finding the place of a key in a cluster costs.
        if self._circuit.any_open and self._circuit.is_open(self._client.place(key)):
            raise _silent()
        try:
            return await ask()
        except Refused:  # not silent
            raise
        except Unavailable:
            self._circuit.open(self._client.place(key), self._client, key)
            raise


def _silent() -> Unavailable:
    return Unavailable(
        Reason.STORE_UNAVAILABLE,
        "the Valkey or Redis server for answers does not answer",
        RETRY_AFTER_SECONDS,
    )
