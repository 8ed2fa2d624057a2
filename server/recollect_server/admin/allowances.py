"""What one tenant or user has left of its limits, as one process knows it.

A rate is a bucket that all servers share. So that a call need not ask for each permit, a process
takes some ahead while they are asked for in quick succession, at most a twentieth of the limit and
a second's worth, and what it has not used within a second is lost. Permits taken are never more
than the limit allows; they may be used up to a second later.

What is stored is counted in the database every ten seconds, and in between a process adds what it
lets in itself.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from recollect_server.admin.buckets import SLACK_SECONDS, Buckets, Taken
from recollect_server.admin.limits import Limit, Rate
from recollect_server.errors import Unavailable
from recollect_server.scope import Scope

LEASE_SECONDS = 1.0
"""How long permits taken ahead can be used."""

LEASE_SHARE = 20
"""A process takes at most the limit divided by this ahead."""

COUNT_SECONDS = 10.0
"""How old a count of what is stored may be."""

COUNT_COST = 50
"""A count that takes long is used for so many times as long."""

NEVER = math.inf
"""The wait for what does not become free by itself."""


class Allowance(Protocol):
    """What is left of one limit."""

    def spend(self, cost: int) -> bool:
        """Use `cost` if this process knows without asking that it may."""

    async def acquire(self, cost: int) -> float:
        """Use `cost` and return 0, or return the seconds until it may be used, or `NEVER`."""

    def give_back(self, cost: int) -> None:
        """Take back what was used for a call that is not let in."""


class Lease:
    """`Allowance` of a rate.

    Args:
        clock: seconds that only grow.
    """

    def __init__(
        self,
        buckets: Buckets,
        owner: Scope,
        limit: Limit,
        rate: Rate,
        clock: Callable[[], float],
    ) -> None:
        self._rate = rate
        self._buckets = buckets
        self._owner = owner
        self._limit = limit
        self._clock = clock
        self._lock = asyncio.Lock()
        self._left = 0
        self._until = 0.0
        self._full_at = 0.0
        self._taken_at = 0.0
        self._ahead = 0
        self._most_ahead = int(min(rate.most / LEASE_SHARE, LEASE_SECONDS / rate.each))

    def spend(self, cost: int) -> bool:
        """See `Allowance`."""
        if self._left < cost or self._clock() >= self._until:
            return False
        self._left -= cost
        return True

    def give_back(self, cost: int) -> None:
        """See `Allowance`."""
        self._left += cost

    async def acquire(self, cost: int) -> float:
        """See `Allowance`."""
        async with self._lock:
            if self.spend(cost):
                return 0.0
            now = self._clock()
            if now >= self._until:
                self._left = 0
            missing = cost - self._left
            # Others may have taken more, never less: what is known to be gone is not asked for.
            if self._wait(missing):
                return self._wait_for(cost)
            self._plan_ahead(now)
            taken = await self._take(missing, missing + self._ahead)
            if taken.granted < missing:
                return self._wait_for(cost)
            self._taken_at = now = self._clock()
            self._until = now + LEASE_SECONDS
            self._left += taken.granted - cost
            return 0.0

    def _wait(self, cost: int) -> float:
        """Return the least seconds until the bucket gives `cost`, as far as is known here."""
        needed = min(cost * self._rate.each, self._rate.seconds)
        wait = self._full_at + needed - self._rate.seconds - self._clock()
        return wait if wait > SLACK_SECONDS else 0.0

    def _wait_for(self, cost: int) -> float:
        """Return the seconds until a call of this cost is let in; above 0, for it is not now."""
        wait = self._wait(cost - self._left)
        if self._left and self._clock() + wait >= self._until:
            wait = self._wait(cost)
        return max(wait, SLACK_SECONDS)

    async def charge(self, cost: int) -> None:
        """Use `cost` whether there is any left or not."""
        await self._take(0, cost)

    async def full_in(self) -> float:
        """Return the seconds until the bucket is full."""
        return (await self._take(0, 0)).full_in

    def _plan_ahead(self, now: float) -> None:
        """Take twice as many ahead as before if those were used up at once, else none."""
        hot = now - self._taken_at < LEASE_SECONDS / 10
        self._ahead = min(self._most_ahead, max(1, 2 * self._ahead)) if hot else 0

    async def _take(self, need: int, want: int) -> Taken:
        taken = await self._buckets.take(self._owner, self._limit, self._rate, need, want)
        self._full_at = self._clock() + taken.full_in
        return taken


class Room:
    """`Allowance` of what is stored.

    Args:
        count: counts it in the database.
        clock: seconds that only grow.
    """

    def __init__(
        self, most: int, count: Callable[[], Awaitable[int]], clock: Callable[[], float]
    ) -> None:
        self._most = most
        self._count = count
        self._clock = clock
        self._lock = asyncio.Lock()
        self._counted = 0
        self._added = 0
        self._until = 0.0

    def spend(self, cost: int) -> bool:
        """See `Allowance`."""
        if self._clock() >= self._until or self._counted + self._added + cost > self._most:
            return False
        self._added += cost
        return True

    def give_back(self, cost: int) -> None:
        """See `Allowance`."""
        self._added = max(0, self._added - cost)

    async def acquire(self, cost: int) -> float:
        """See `Allowance`."""
        async with self._lock:
            if self._clock() >= self._until and not await self._recount():
                return 0.0
        return 0.0 if self.spend(cost) else NEVER

    async def _recount(self) -> bool:
        """Count anew; False if the database does not answer, and then calls fail by themselves."""
        began, before = self._clock(), self._added
        try:
            self._counted = await self._count()
        except Unavailable:
            return False
        # What was let in meanwhile may or may not be in the count.
        self._added -= before
        took = self._clock() - began
        self._until = began + max(COUNT_SECONDS, COUNT_COST * took)
        return True
