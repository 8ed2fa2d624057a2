"""Token buckets: the port, those of one process, and the choice between them and shared ones.

A bucket holds a rate's permits, full at first, and refills evenly: the generic cell rate algorithm
of ITU-T I.371, by which all that is kept of a bucket is the time at which it is full.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from recollect_server.admin.limits import Limit, Rate
from recollect_server.errors import Unavailable
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.quotas")

MOST_OWN = 20_000
"""Buckets of a process; beyond it those that are full, which need not be kept, are dropped."""


SLACK_SECONDS = 1e-6
"""By how much a permit may come early, so that none is missed by a rounded number."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a bucket gave.

    Attributes:
        granted: permits; 0 if there were too few.
        full_in: seconds until the bucket is full, if nobody takes more.
    """

    granted: int
    full_in: float


class Buckets(Protocol):
    """Buckets by owner and limit. The owner is a user, or with the user_id "" a tenant."""

    async def take(self, owner: Scope, limit: Limit, rate: Rate, need: int, want: int) -> Taken:
        """Take up to `want` permits, but at least `need`, or none.

        More than a bucket can hold is given when it is full, and owed. A `need` of 0 takes all of
        `want`, whether there are any or not. Of a bucket that was used at another rate as many
        permits are taken as there were then, but no more than all.

        Raises:
            Unavailable: they cannot be asked.
        """


class OwnBuckets:
    """`Buckets` of this process.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._used: dict[tuple[Scope, Limit], tuple[float, Rate]] = {}

    async def take(self, owner: Scope, limit: Limit, rate: Rate, need: int, want: int) -> Taken:
        """See `Buckets`."""
        at, now = (owner, limit), self._clock()
        full_at, before = self._used.get(at, (now, rate))
        full_at = max(now, full_at)
        if before != rate:
            full_at = now + min((full_at - now) * rate.each / before.each, rate.seconds)
        room = now + rate.seconds - full_at + SLACK_SECONDS
        granted = 0
        if not need:
            granted = want
        elif room >= min(need * rate.each, rate.seconds):
            granted = max(need, min(want, int(room / rate.each)))
        full_at += granted * rate.each
        self._used[at] = full_at, rate
        if len(self._used) > MOST_OWN:
            self._used = {at: used for at, used in self._used.items() if used[0] > now}
        return Taken(granted, full_at - now)


class SharedBuckets:
    """`Buckets` of all processes, and while they cannot be asked those of this one alone.

    Attributes:
        alone: they could not be asked the last time.
    """

    def __init__(self, shared: Buckets, own: Buckets) -> None:
        self.alone = False
        self._shared = shared
        self._own = own

    async def take(self, owner: Scope, limit: Limit, rate: Rate, need: int, want: int) -> Taken:
        """See `Buckets`; never raises `Unavailable`."""
        try:
            taken = await self._shared.take(owner, limit, rate, need, want)
        except Unavailable:
            if not self.alone:
                log.warning("limits are counted by this process alone: Valkey does not answer")
            self.alone = True
            return await self._own.take(owner, limit, rate, need, want)
        if self.alone:
            log.info("limits are counted by all processes again")
        self.alone = False
        return taken
