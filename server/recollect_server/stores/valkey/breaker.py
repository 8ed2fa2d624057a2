"""A client that gives up early: while a server is silent, calls fail at once.

A call that gets no answer within its patience fails, and from then on every call to that server
does, without waiting, until it answers a probe. In a cluster this is so for each node.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.valkey.connect import RETRY_AFTER_SECONDS, Client, Script

T = TypeVar("T")

PROBE_SECONDS = 0.1
"""How often a silent server is tried."""

SLICES = 4
"""Patience is spent in slices: an event loop that was held up is out of one of them only."""


class Circuit:
    """Which servers are silent, known to all clients that share it."""

    def __init__(self) -> None:
        self._probes: dict[str, asyncio.Task[None]] = {}

    def is_open(self, place: str) -> bool:
        """Whether calls to a server are not worth trying."""
        return place in self._probes

    def open(self, place: str, client: Client, key: str | None) -> None:
        """Fail calls to a server until it answers."""
        if place not in self._probes:
            self._probes[place] = asyncio.create_task(self._probe(place, client, key))

    async def close(self) -> None:
        """End the probes."""
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
        patience: seconds that a call may take, connecting included.
    """

    def __init__(self, client: Client, circuit: Circuit, patience: float) -> None:
        self._client = client
        self._circuit = circuit
        self._patience = patience

    async def get(self, key: str) -> bytes | None:
        """See `Client`."""
        return await self._guard(key, self._client.get(key))

    async def set(self, key: str, value: bytes, *, px: int | None = None, nx: bool = False) -> bool:
        """See `Client`."""
        return await self._guard(key, self._client.set(key, value, px=px, nx=nx))

    async def delete(self, *keys: str) -> int:
        """See `Client`."""
        return await self._guard(next(iter(keys), None), self._client.delete(*keys))

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[bytes | int]) -> Any:
        """See `Client`."""
        return await self._guard(next(iter(keys), None), self._client.run(script, keys, args))

    async def command(self, key: str | None, *words: str | bytes | int) -> Any:
        """See `Client`."""
        return await self._guard(key, self._client.command(key, *words))

    def scan(self, pattern: str) -> AsyncGenerator[list[str]]:
        """See `Client`; nobody in a hurry scans, so it is not guarded."""
        return self._client.scan(pattern)

    async def ping(self) -> None:
        """See `Client`."""
        await self._guard(None, self._client.ping())

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

    async def _guard(self, key: str | None, call: Coroutine[Any, Any, T]) -> T:
        place = self._client.place(key)
        if self._circuit.is_open(place):
            call.close()
            raise _silent()
        try:
            return await _within(self._patience, call)
        except Unavailable:
            self._circuit.open(self._client.place(key), self._client, key)
            raise


async def _within(seconds: float, call: Awaitable[T]) -> T:
    """Wait in the caller's task: a task for each call would cost as much as the call."""
    loop = asyncio.get_running_loop()
    spent = 0
    timer: asyncio.TimerHandle

    def next_slice() -> None:
        nonlocal spent, timer
        spent += 1
        if spent == SLICES:
            limit.reschedule(loop.time())
        else:
            timer = loop.call_later(seconds / SLICES, next_slice)

    limit = asyncio.timeout(None)
    timer = loop.call_later(seconds / SLICES, next_slice)
    try:
        async with limit:
            return await call
    except TimeoutError:
        raise _silent() from None
    finally:
        timer.cancel()


def _silent() -> Unavailable:
    return Unavailable(
        Reason.STORE_UNAVAILABLE,
        "the Valkey or Redis server for answers does not answer",
        RETRY_AFTER_SECONDS,
    )
