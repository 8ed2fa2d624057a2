"""The work that every peer is given, and how it is timed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from recollect_server.bench.stats import percentile
from recollect_server.bench.texts import Texts

WINDOW = 20
"""Messages of the sessions that are read."""

EXCHANGES = 10
"""Exchanges of user and model that a stored conversation has before another one begins."""

FACTS = 100
"""Facts of each user when the search begins."""

TOP_K = 10
OPERATIONS = ("search", "read", "store", "add fact")
"""Those that add nothing come first: who stores faster would search more later."""


class Peer(Protocol):
    """A memory server under load. A caller is a number, and a user of its own.

    Attributes:
        name: with the version.
        pids: the processes to stop while others are measured.
    """

    name: str
    pids: list[int]

    async def prepare(self, callers: int, texts: Texts) -> None:
        """Give each caller's user a session of `WINDOW` messages and `FACTS` searchable facts."""

    async def store(self, caller: int, exchange: tuple[str, str]) -> None:
        """Add what user and model said to the caller's conversation."""

    async def read(self, caller: int) -> None:
        """Read the session of `WINDOW` messages as context for a model."""

    async def add_fact(self, caller: int, text: str) -> None:
        """Add a fact about the user."""

    async def search(self, caller: int, query: str) -> None:
        """Find the `TOP_K` facts of the user that are nearest in meaning."""


@dataclass(slots=True)
class Seen:
    """The slices of an operation.

    Attributes:
        rates: calls a second.
        p50: medians of a call in ms.
        p95: 95th percentiles in ms.
        cpu: ms of processor time a call, of all processes of the peer.
    """

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, times: list[float], seconds: float) -> None:
        """Take in a slice: milliseconds of each call, and how long it was."""
        self.rates.append(len(times) / seconds)
        self.p50.append(percentile(times, 0.5))
        self.p95.append(percentile(times, 0.95))

    def middle(self) -> tuple[float, float, float, float]:
        """Return the medians over the slices of rate, p50, p95 and processor time."""
        return median(self.rates), median(self.p50), median(self.p95), median(self.cpu)


def call_of(peer: Peer, operation: str, texts: Texts) -> Callable[[int], Awaitable[None]]:
    """Return the operation as a function of the caller; texts and queries are new each time."""
    number = iter(range(10**9))

    def new(text: str) -> str:
        return f"{text} ({next(number)})"

    return {
        "store": lambda n: peer.store(n, (texts.message(), texts.message())),
        "read": peer.read,
        "add fact": lambda n: peer.add_fact(n, new(texts.sentence())),
        "search": lambda n: peer.search(n, new(texts.question())),
    }[operation]


async def timed(
    call: Callable[[int], Awaitable[None]], callers: int, seconds: float
) -> tuple[list[float], float]:
    """Let callers call one after the other; return each call's milliseconds, and the seconds."""
    times: list[float] = []
    started = time.perf_counter()

    async def caller(number: int) -> None:
        while True:
            begun = time.perf_counter()
            await call(number)
            ended = time.perf_counter()
            times.append((ended - begun) * 1000)
            if ended - started >= seconds:
                return

    await asyncio.gather(*map(caller, range(callers)))
    return times, time.perf_counter() - started
