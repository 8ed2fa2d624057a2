"""The way to the right node of a cluster: https://valkey.io/topics/cluster-spec.

Nodes are reached through either library's ordinary connections. The libraries' own cluster clients
are not used: they send ASKING and the command it is for on connections that need not be the same,
so commands fail while their slot is moved; and when one node dies, calls on the others fail too.
"""

import asyncio
import binascii
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from recollect_server.stores.valkey._library import Errors
from recollect_server.stores.valkey._line import Line, Route
from recollect_server.stores.valkey._patience import within

Address = tuple[str, int]
T = TypeVar("T")

SLOTS = 16384
PAUSES_SECONDS = (0.0, 0.0, 0.02, 0.04, 0.08, 0.16, 0.16, 0.16)
"""Before each attempt at a command."""

REFRESH_SECONDS = 0.1
"""The topology is asked for no more often than this."""


class SlotNotCoveredError(ConnectionError):
    """No node has the slot of a key."""


def key_slot(key: str) -> int:
    """Return the slot of a key: CRC-16 (XMODEM) of its hash tag, or of all of it."""
    data = key.encode()
    start = data.find(b"{")
    end = data.find(b"}", start + 1)
    if start >= 0 and start + 1 < end:
        data = data[start + 1 : end]
    return binascii.crc_hqx(data, 0) % SLOTS


class Cluster:
    """A `Route` to the nodes of a cluster; every node has a line of its own.

    A command that was refused because its slot is elsewhere or on its way is repeated, after the
    pauses of `PAUSES_SECONDS`. A node that failed is sent nothing before another one was asked who
    has its slots now; commands for other nodes do not wait for that.

    Args:
        seed: host and port of the node that is asked first.
        open_node: returns the way to a node.
        label: returns a node's address as it is to be logged.
        timeout: seconds a command may take, with all that is done to find its node.
        probe_timeout: seconds a node may take to tell the topology before another one is asked.
    """

    def __init__(
        self,
        seed: Address,
        open_node: Callable[[Address], Line],
        errors: Errors,
        label: Callable[[Address], str],
        timeout: float,
        probe_timeout: float,
    ) -> None:
        self._seed = seed
        self._open_node = open_node
        self._errors = errors
        self._label = label
        self._name = f"{label(seed)}?cluster=true"
        self._timeout = timeout
        self._probe_timeout = probe_timeout
        self._lines: dict[Address, Line] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._primaries: frozenset[Address] = frozenset()
        self._members: frozenset[Address] = frozenset()  # primaries and replicas
        self._covered = False
        self._suspects: set[Address] = set()
        self._refreshing = asyncio.Lock()
        self._refreshed = -REFRESH_SECONDS
        self._closed = False

    async def send(self, key: str | None, *command: str | bytes | int) -> Any:
        """Return the answer of the node that has the key, or of any node if there is none.

        Raises:
            Exception: the library's, also when no attempt succeeded; a SlotNotCoveredError, a
                TimeoutError or another OSError when no node can be asked.
        """
        return await within(self._timeout, self._send(key, command))

    async def _send(self, key: str | None, command: tuple[str | bytes | int, ...]) -> Any:
        if key is None:
            if not self._primaries:
                await self._refresh()
            return await self._ask_any(lambda _, line: line.send(None, *command))
        slot = key_slot(key)
        failure: Exception
        for pause in PAUSES_SECONDS:
            if pause:
                await asyncio.sleep(pause)
            address = await self._owner(slot)
            try:
                return await self._follow(address, key, command)
            except self._errors.moved as error:
                await self._refresh()
                self._owners[slot] = _redirect(error, address)
                failure = error
            except self._errors.later as error:
                await self._refresh()
                failure = error
        raise failure

    def place(self, key: str | None) -> str:
        """Return the address of the key's node, or the cluster's if there is none."""
        owner = None if key is None else self._owners[key_slot(key)]
        return self._name if owner is None else self._label(owner)

    def places(self) -> Collection[str]:
        """Return the addresses of all primaries, and the cluster's while slots have none."""
        places = {self._label(address) for address in self._primaries}
        return places if self._covered else places | {self._name}

    async def nodes(self) -> Sequence[Route]:
        """Return the ways to all primaries, as the cluster is now."""
        await within(self._timeout, self._refresh())
        if not self._covered:
            raise SlotNotCoveredError("some keys have no node")
        return [self._line(address) for address in self._primaries]

    async def close(self) -> None:
        """Close the connections to all nodes for good."""
        self._closed = True
        await self._close(list(self._lines))

    async def _follow(
        self, address: Address, key: str, command: tuple[str | bytes | int, ...]
    ) -> Any:
        """Send a command to a node and, if that says ASK, to the node that it names."""
        try:
            return await self._watched(address, lambda line: line.send(key, *command))
        except self._errors.moved:
            raise
        except self._errors.ask as error:
            importer = _redirect(error, address)
        return await self._watched(importer, lambda line: line.send_asking(*command))

    async def _watched(self, address: Address, send: Callable[[Line], Awaitable[T]]) -> T:
        """Send to a node, and suspect it unless it answers."""
        try:
            answer = await send(self._line(address))
        except self._errors.refusal:
            raise
        except BaseException:  # also when the caller's patience ends, for the node may hang
            self._suspects.add(address)
            raise
        self._suspects.discard(address)
        return answer

    def _line(self, address: Address) -> Line:
        if self._closed:
            raise self._errors.broken("the connections were closed")
        if address not in self._lines:
            self._lines[address] = self._open_node(address)
        return self._lines[address]

    async def _owner(self, slot: int) -> Address:
        owner = self._owners[slot]
        if owner is None or owner in self._suspects:
            await self._refresh()
            owner = self._owners[slot]
        if owner is None:
            raise SlotNotCoveredError("no node of the cluster has the key's slot")
        return owner

    async def _refresh(self) -> None:
        """Learn which node has which slots, unless that was learnt just now."""
        async with self._refreshing:
            if time.monotonic() - self._refreshed < REFRESH_SECONDS:
                return
            ranges = await self._ask_any(_slots_by)
            owners: list[Address | None] = [None] * SLOTS
            primaries: set[Address] = set()
            members: set[Address] = set()
            for first, last, nodes in ranges:
                owners[first : last + 1] = [nodes[0]] * (last + 1 - first)
                primaries.add(nodes[0])
                members.update(nodes)
            self._owners = owners
            self._primaries, self._members = frozenset(primaries), frozenset(members)
            self._covered = None not in owners
            self._suspects.clear()
            self._refreshed = time.monotonic()
            await self._close([a for a in self._lines if a not in members and a != self._seed])

    async def _ask_any(self, ask: Callable[[Address, Line], Awaitable[T]]) -> T:
        """Return the first answer of a node; those that failed last are asked last."""
        nodes = [*(self._members | {self._seed})]
        random.shuffle(nodes)
        nodes.sort(key=self._suspects.__contains__)
        failure: Exception
        for node in nodes:
            try:
                return await within(self._probe_timeout, self._watched(node, partial(ask, node)))
            except (self._errors.failure, OSError, TimeoutError) as error:
                failure = error
        raise failure

    async def _close(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            with suppress(self._errors.failure, OSError):
                if (line := self._lines.pop(address, None)) is not None:
                    await line.close()


async def _slots_by(address: Address, line: Line) -> list[tuple[int, int, list[Address]]]:
    """Return the ranges of slots as a node sees them: first, last, primary and replicas."""
    answer = await line.send(None, "CLUSTER", "SLOTS")
    if not answer:
        raise SlotNotCoveredError("the node knows of no slots")
    return [
        (first, last, [(_host(host, address), port) for host, port, *_ in nodes])
        for first, last, *nodes in answer
    ]


def _host(named: bytes | str | None, answered_by: Address) -> str:
    """Return the host that a node named; without a name it means its own."""
    host = named.decode() if isinstance(named, bytes) else named
    return answered_by[0] if host in (None, "", "?") else host


def _redirect(error: Any, answered_by: Address) -> Address:
    """Return the address that MOVED or ASK names; one without a host has that of the answer."""
    return _host(error.host, answered_by), int(error.port)
