"""Short measurements that take turns, so that what disturbs a machine disturbs all of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

from recollect_server.bench.stats import percentile

Call = Callable[[int], Awaitable[int]]
"""Does one call of the caller of this number; returns how many things came of it, 0 for a miss."""

LONGEST_SLICE_SECONDS = 0.5
FEWEST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Slice:
    """What one measurement saw.

    Attributes:
        rate: things a second, of all callers together.
        p50_ms: median of a call in milliseconds.
        p99_ms: 99th percentile of a call in milliseconds.
        missed: calls of which nothing came; their time counts.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everything is measured.

    Attributes:
        rounds: slices of each kind.
        seconds: length of a slice.
    """

    rounds: int
    seconds: float


def plan(duration: float) -> Plan:
    """Return the plan for two things that share `duration` seconds."""
    seconds = min(LONGEST_SLICE_SECONDS, duration / (2 * FEWEST_ROUNDS))
    return Plan(max(FEWEST_ROUNDS, round(duration / (2 * seconds))), seconds)


async def measure(call: Call, callers: int, seconds: float) -> Slice:
    """Let callers call, each at least once, one call after the other; raises what a call raises.

    Calls that run when the time is over are waited for, and the time until then counts.
    """
    times: list[float] = []
    things = missed = 0
    started = time.perf_counter()

    async def caller(number: int) -> None:
        nonlocal things, missed
        begun = time.perf_counter()
        while True:
            done = await call(number)
            ended = time.perf_counter()
            things += done
            missed += not done
            times.append((ended - begun) * 1000)
            begun = ended
            if ended - started >= seconds:
                return

    await asyncio.gather(*map(caller, range(callers)))
    rate = things / (time.perf_counter() - started)
    return Slice(rate, percentile(times, 0.5), percentile(times, 0.99), missed)


def middle(slices: Sequence[Slice]) -> Slice:
    """Return the median of each figure, and all that missed."""
    return Slice(
        rate=median(s.rate for s in slices),
        p50_ms=median(s.p50_ms for s in slices),
        p99_ms=median(s.p99_ms for s in slices),
        missed=sum(s.missed for s in slices),
    )
