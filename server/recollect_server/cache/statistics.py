"""Counts of lookups, gathered in memory and added to the durable ones every second."""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping

import structlog

from recollect_server.cache.model import (
    CacheTier,
    LookupResult,
    MissReason,
    Partition,
)
from recollect_server.cache.ports import AnswerStore, CacheRecords
from recollect_server.errors import Unavailable
from recollect_server.memory.prompt import Usage
from recollect_server.scope import Scope
from recollect_server.timing import Timings

log = structlog.get_logger("recollect.cache")

FLUSH_SECONDS = 1.0
USAGE_FIELDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
SAVED_MICRODOLLARS = "saved_microdollars"
_TIME = "time_"
_TIERS = {tier: tier.name.lower() for tier in CacheTier}
_REASONS = {reason: reason.name.lower() for reason in MissReason}
_STEPS_AN_OCTAVE = 2
"""Of a lookup's time; the middle of a step is within a fifth of all in it."""


class Statistics:
    """Counts what lookups found, and notes which entries were used.

    `run` must be running. Counts that were not added yet are lost when the process is killed.

    Attributes:
        lookups: of this process since it started, by tier, `hit` or `miss`, and a miss's reason.
        saved_usd: US dollars that hits of this process saved.
    """

    def __init__(self, store: AnswerStore, records: CacheRecords) -> None:
        self._store = store
        self._records = records
        self._counts: dict[Partition, Counter[str]] = {}
        self._used: dict[Scope, set[str]] = {}
        self.lookups = Timings("tier", "outcome", "reason")
        self.saved_usd = 0.0

    def count(
        self, partition: Partition, result: LookupResult, seconds: float, saved_usd: float
    ) -> None:
        """Count a lookup.

        Args:
            saved_usd: what a hit saved, in US dollars.
        """
        counts = self._counts.get(partition)
        if counts is None:
            counts = self._counts[partition] = Counter()
        counts[f"{_TIME}{_step(seconds)}"] += 1
        entry = result.entry
        if entry is None:
            reason = result.miss_reason or MissReason.NOT_FOUND
            counts[_miss(reason)] += 1
            self.lookups.add(seconds, "", "miss", _REASONS[reason])
            return
        tier = result.tier or CacheTier.EXACT
        counts[_hit(tier)] += 1
        self.lookups.add(seconds, _TIERS[tier], "hit", "")
        self.saved_usd += saved_usd
        counts[SAVED_MICRODOLLARS] += round(saved_usd * 1_000_000)
        usage = entry.usage
        for name in USAGE_FIELDS:
            counts[name] += getattr(usage, name)
        self._used.setdefault(partition.owner, set()).add(entry.entry_id)

    def forget_user(self, scope: Scope) -> int:
        """Forget what was counted of a user and not added yet; return of how many partitions."""
        partitions = [each for each in self._counts if each.owner == scope]
        for partition in partitions:
            del self._counts[partition]
        self._used.pop(scope, None)
        return len(partitions)

    async def run(self) -> None:
        """Flush every second until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Add what was counted; what cannot be added waits for the next time."""
        counts, self._counts = self._counts, {}
        used, self._used = self._used, {}
        if counts:
            try:
                await self._records.add(counts)
            except Unavailable as error:
                log.warning("counts of the cache wait", reason=error.reason)
                for partition, names in counts.items():
                    self._counts.setdefault(partition, Counter()).update(names)
        for owner, entry_ids in used.items():
            try:
                await self._store.used(owner, sorted(entry_ids))
            except Unavailable:
                # Which entries are evicted first is a guess without it.
                return


def hits(counts: Mapping[str, int], tier: CacheTier) -> int:
    """Return how many hits a tier had."""
    return counts.get(_hit(tier), 0)


def misses(counts: Mapping[str, int]) -> dict[MissReason, int]:
    """Return how many misses each reason had, without zeros."""
    found = {reason: counts.get(_miss(reason), 0) for reason in MissReason}
    return {reason: count for reason, count in found.items() if count}


def saved_usage(counts: Mapping[str, int]) -> Usage:
    """Return the tokens that hits saved."""
    return Usage(*(counts.get(name, 0) for name in USAGE_FIELDS))


def median_seconds(counts: Mapping[str, int]) -> float:
    """Return the median time of a lookup within a fifth, 0 without one."""
    steps = sorted(
        (int(name.removeprefix(_TIME)), count)
        for name, count in counts.items()
        if name.startswith(_TIME)
    )
    left = sum(count for _, count in steps) / 2
    for step, count in steps:
        left -= count
        if left <= 0:
            return float(2 ** ((step + 0.5) / _STEPS_AN_OCTAVE)) / 1_000_000
    return 0.0


def _step(seconds: float) -> int:
    return math.floor(_STEPS_AN_OCTAVE * math.log2(max(seconds * 1_000_000, 1.0)))


def _hit(tier: CacheTier) -> str:
    return f"hit_{_TIERS[tier]}"


def _miss(reason: MissReason) -> str:
    return f"miss_{_REASONS[reason]}"
