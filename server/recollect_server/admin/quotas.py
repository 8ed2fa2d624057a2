"""Who may use how much: lets calls in or refuses them, and tells what is used.

Without limits nothing here is asked. Limits may change while calls run. A tenant whose calls are
refused again and again is told so more and more slowly, up to two seconds later, so that callers
who do not wait keep themselves waiting and nobody else.
"""

import asyncio
import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, Protocol

from recollect_server.admin.allowances import NEVER, Allowance, Lease, Room
from recollect_server.admin.buckets import SharedBuckets
from recollect_server.admin.limits import STORED, AllLimits, Limit, Limits
from recollect_server.errors import QuotaExceeded
from recollect_server.scope import Scope

MOST_KNOWN = 20_000
"""Tenants and users whose permits a process keeps; the longest unused are forgotten first."""

MOST_USER_ID_BYTES = 256
"""No user has a longer id: such a call is refused later, and its user is not kept here."""

REFUSAL_SECONDS = 0.02
"""A tenant's refusals are so far apart, after the first `REFUSALS_AT_ONCE`."""
REFUSALS_AT_ONCE = 10
HELD_SECONDS = 2.0
"""How long a refusal is held back at most."""
MOST_HELD = 256
"""Refusals of a tenant that are held back at once; further ones go out immediately."""

Costs = tuple[tuple[Limit, int], ...]
"""What a call uses: at least 1 of each."""


class StoredCounts(Protocol):
    """Counts what is stored."""

    async def count(self, owner: Scope, limit: Limit) -> int:
        """Return how many there are of a user, or with the user_id "" of a tenant.

        Raises:
            Unavailable: the database does not answer.
        """


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """What is used of a limit.

    Attributes:
        used: of a rate what is not free at the moment, which may be more than there is.
        most: 0 if it is not limited.
        seconds: the rate's period, 0 for what is stored.
        full_in: seconds until all of a rate is free.
    """

    limit: Limit
    used: int
    most: int
    seconds: float = 0.0
    full_in: float = 0.0


@dataclass(frozen=True, slots=True)
class _Subject:
    """A tenant or a user, and what is left of its limits."""

    owner: Scope
    limits: Limits
    allowances: Mapping[Limit, Allowance]


class _Patience:
    """When a tenant's next refusal goes out."""

    __slots__ = ("held", "next")

    def __init__(self) -> None:
        self.next = 0.0
        self.held = 0

    def hold(self, now: float) -> float:
        """Return the seconds to hold a refusal back."""
        earliest = now - REFUSALS_AT_ONCE * REFUSAL_SECONDS
        self.next = max(self.next, earliest) + REFUSAL_SECONDS
        wait = self.next - now
        if wait <= 0 or self.held >= MOST_HELD:
            return 0.0
        if wait <= HELD_SECONDS:
            return wait
        # A burst that is over must not make refusals slow for long, nor must they go out together.
        self.next = now + HELD_SECONDS
        return HELD_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret


class Quotas:
    """The limits of all tenants, as one process enforces them.

    Args:
        limits: until others are set.
        clock: seconds that only grow.

    Attributes:
        refused: calls by limit, and by whose it was: `tenant` or `user`.
    """

    def __init__(
        self,
        buckets: SharedBuckets,
        stored: StoredCounts,
        limits: AllLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: Counter[tuple[Limit, str]] = Counter()
        self._buckets = buckets
        self._stored = stored
        self._limits = limits
        self._clock = clock
        self._subjects: OrderedDict[Scope, _Subject] = OrderedDict()
        self._patience: OrderedDict[str, _Patience] = OrderedDict()

    @property
    def alone(self) -> bool:
        """Whether limits are counted by this process alone, as Valkey does not answer."""
        return self._buckets.alone

    def change(self, limits: AllLimits) -> None:
        """Enforce other limits from now on; what was used counts as used of them, too."""
        self._limits = limits
        self._subjects = OrderedDict(
            (owner, subject)
            for owner, subject in self._subjects.items()
            if subject.limits == self._limits_of(owner)
        )

    def admit(
        self, scope: Scope, costs: Costs, left: Callable[[], float | None]
    ) -> Awaitable[None] | None:
        """Count a call, and return None if it is let in and an awaitable if that is to be seen.

        Args:
            scope: its user_id is "" for a call that is about no user.
            left: returns the seconds until the call's deadline, None without one.

        Raises:
            QuotaExceeded: when awaited.
        """
        spent: list[tuple[Allowance, int]] = []
        subjects = self._of_call(scope)
        for subject in subjects:
            for limit, cost in costs:
                allowance = subject.allowances.get(limit)
                if allowance is None:
                    continue
                if not allowance.spend(cost):
                    _give_back(spent)
                    return self._admit_or_refuse(scope.tenant, subjects, costs, left)
                spent.append((allowance, cost))
        return None

    async def charge_tokens(self, scope: Scope, count: int) -> None:
        """Count the tokens of a turn; it was let in for one."""
        for subject in self._of_call(scope):
            lease = subject.allowances.get(Limit.TOKENS)
            if isinstance(lease, Lease) and count > 1:
                await lease.charge(count - 1)

    async def usage(self, owner: Scope) -> tuple[LimitUsage, ...]:
        """Return what a user, or with the user_id "" a tenant, uses of each limit.

        What is stored is told with and without a limit, a rate with one.

        Raises:
            Unavailable: the database does not answer.
        """
        subject, found = self._subject(owner), []
        for limit, rate in subject.limits.rates.items():
            lease = subject.allowances[limit]
            assert isinstance(lease, Lease)
            full_in = await lease.full_in()
            used = math.ceil(round(full_in / rate.each, 3))
            found.append(LimitUsage(limit, used, rate.most, rate.seconds, full_in))
        for limit in STORED:
            used = await self._stored.count(owner, limit)
            found.append(LimitUsage(limit, used, subject.limits.stored.get(limit, 0)))
        return tuple(found)

    async def _admit_or_refuse(
        self,
        tenant: str,
        subjects: tuple[_Subject, ...],
        costs: Costs,
        left: Callable[[], float | None],
    ) -> None:
        refusal = await self._acquire(subjects, costs)
        if refusal is None:
            return
        if held := self._hold(tenant, left()):
            patience = self._patience[tenant]
            patience.held += 1
            try:
                await asyncio.sleep(held)
            finally:
                patience.held -= 1
            refusal = await self._acquire(subjects, costs)
        if refusal is not None:
            self._refuse(*refusal)

    async def _acquire(
        self, subjects: tuple[_Subject, ...], costs: Costs
    ) -> tuple[_Subject, Limit, float] | None:
        """Use what a call costs; return None, or whose limit is used up and for how long."""
        spent: list[tuple[Allowance, int]] = []
        for subject in subjects:
            for limit, cost in costs:
                allowance = subject.allowances.get(limit)
                if allowance is None:
                    continue
                if wait := await allowance.acquire(cost):
                    _give_back(spent)
                    return subject, limit, wait
                spent.append((allowance, cost))
        return None

    def _hold(self, tenant: str, seconds: float | None) -> float:
        patience = self._patience.setdefault(tenant, _Patience())
        if len(self._patience) > MOST_KNOWN:
            self._patience.popitem(last=False)
            self._patience[tenant] = patience
        held = patience.hold(self._clock())
        return held if seconds is None else min(held, seconds / 2)

    def _refuse(self, subject: _Subject, limit: Limit, wait: float) -> NoReturn:
        owner, rate = subject.owner, subject.limits.rates.get(limit)
        whose = "user" if owner.user_id else "tenant"
        self.refused[limit, whose] += 1
        raise QuotaExceeded(
            limit=limit,
            whose=whose,
            name=owner.user_id or owner.tenant,
            most=rate.most if rate is not None else subject.limits.stored[limit],
            seconds=rate.seconds if rate is not None else None,
            retry_after=None if wait == NEVER else math.ceil(wait * 1e6) / 1e6,
        )

    def _of_call(self, scope: Scope) -> tuple[_Subject, ...]:
        """Return whose limits a call counts towards, the user first."""
        whole = self._subject(Scope(scope.tenant, ""))
        if not scope.user_id or len(scope.user_id.encode()) > MOST_USER_ID_BYTES:
            return (whole,)
        return self._subject(scope), whole

    def _subject(self, owner: Scope) -> _Subject:
        subject = self._subjects.get(owner)
        if subject is None:
            subject = self._subjects[owner] = self._new_subject(owner)
            if len(self._subjects) > MOST_KNOWN:
                self._subjects.popitem(last=False)
        else:
            self._subjects.move_to_end(owner)
        return subject

    def _limits_of(self, owner: Scope) -> Limits:
        of_tenant = self._limits.of(owner.tenant)
        return of_tenant.user if owner.user_id else of_tenant.tenant

    def _new_subject(self, owner: Scope) -> _Subject:
        limits = self._limits_of(owner)
        allowances: dict[Limit, Allowance] = {}
        for limit, most in limits.stored.items():
            allowances[limit] = Room(most, partial(self._stored.count, owner, limit), self._clock)
        for limit, rate in limits.rates.items():
            allowances[limit] = Lease(self._buckets, owner, limit, rate, self._clock)
        return _Subject(owner, limits, allowances)


def _give_back(spent: list[tuple[Allowance, int]]) -> None:
    for allowance, cost in spent:
        allowance.give_back(cost)
