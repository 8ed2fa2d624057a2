"""The answer cache: answers by the whole conversation that led to them."""

from collections.abc import Callable, Sequence
from datetime import datetime

from recollect_server.cache.keys import exact_key
from recollect_server.cache.model import (
    CacheEntry,
    CacheOptions,
    CacheScope,
    CacheTier,
    LookupResult,
    MissReason,
)
from recollect_server.cache.ports import ExactCache, Facts
from recollect_server.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
    Unavailable,
)
from recollect_server.memory.model import Part, plain_text
from recollect_server.memory.prompt import Prompt, Usage
from recollect_server.scope import Scope


class AnswerCache:
    """Looks answers up and stores them.

    Args:
        allow_global: the tenant has opted in to scope GLOBAL.
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        *,
        exact: ExactCache,
        facts: Facts,
        allow_global: bool,
        clock: Callable[[], datetime],
    ) -> None:
        self._exact = exact
        self._facts = facts
        self._allow_global = allow_global
        self._clock = clock

    def check_scope(self, cache_scope: CacheScope, session_id: str) -> None:
        """Refuse a scope that is incomplete or not allowed.

        Raises:
            InvalidArgument: scope SESSION without a session.
            FailedPrecondition: GLOBAL_SCOPE_OFF.
        """
        if cache_scope is CacheScope.SESSION and not session_id:
            raise InvalidArgument("session_id", "must be set for scope SESSION")
        if cache_scope is CacheScope.GLOBAL and not self._allow_global:
            raise FailedPrecondition(
                Reason.GLOBAL_SCOPE_OFF, "the tenant has not opted in to cache scope GLOBAL"
            )

    async def lookup(
        self,
        scope: Scope,
        session_id: str,
        prompt: Prompt,
        *,
        cache_scope: CacheScope,
        newest_fact: datetime | None = None,
    ) -> LookupResult:
        """Look for an answer; an outage is a miss with reason DEGRADED.

        Args:
            newest_fact: when the newest fact recalled for this prompt was recorded; an entry that
                is older misses.
        """
        self.check_scope(cache_scope, session_id)
        try:
            entry = await self._exact.get(
                scope.tenant, exact_key(scope, cache_scope, session_id, prompt)
            )
        except Unavailable:
            return LookupResult(None, miss_reason=MissReason.DEGRADED)
        if entry is None:
            return LookupResult(None, miss_reason=MissReason.NOT_FOUND)
        if newest_fact is not None and newest_fact > entry.create_time:
            return LookupResult(None, miss_reason=MissReason.NEWER_MEMORY)
        try:
            rests = await self._still_rests(scope, entry)
        except Unavailable:
            return LookupResult(None, miss_reason=MissReason.DEGRADED)
        if not rests:
            return LookupResult(None, miss_reason=MissReason.NEWER_MEMORY)
        return LookupResult(entry, tier=CacheTier.EXACT, probability=1.0)

    async def newest_of(self, scope: Scope, fact_ids: Sequence[str]) -> datetime | None:
        """Return when the newest of these facts was recorded, None if there is none."""
        if not fact_ids:
            return None
        facts = await self._facts.get_facts(scope, fact_ids)
        return max((fact.recorded_at for fact in facts), default=None)

    async def _still_rests(self, scope: Scope, entry: CacheEntry) -> bool:
        """Whether the facts that an entry cites are as they were when it was stored, and hold.

        An entry in GLOBAL holds no memory: what it cites is its author's affair.
        """
        cited = set(entry.cited_fact_ids)
        if not cited or not entry.user_id:
            return True
        facts = await self._facts.get_facts(scope, tuple(cited))
        now = self._clock()
        return len(facts) == len(cited) and all(
            fact.recorded_at <= entry.create_time and fact.holds_at(now) for fact in facts
        )

    async def forget_facts(self, scope: Scope, fact_ids: Sequence[str]) -> None:
        """Remove the entries that cite any of these facts; see `memory.forgetting.FactListener`.

        Until it is done, lookups pass over them: see `_still_rests`.
        """
        await self._exact.forget_facts(scope, fact_ids)

    async def store(
        self,
        scope: Scope,
        session_id: str,
        prompt: Prompt,
        answer: tuple[Part, ...],
        usage: Usage,
        *,
        cache_scope: CacheScope,
        options: CacheOptions,
    ) -> CacheEntry:
        """Store the answer to a prompt, replacing an older one.

        Raises:
            InvalidArgument: GLOBAL for an answer whose prompt held a user's memory.
            Unavailable: the cache is down.
        """
        self.check_scope(cache_scope, session_id)
        if cache_scope is CacheScope.GLOBAL and options.holds_memory:
            raise InvalidArgument(
                "scope", "must be USER or SESSION for an answer that holds a user's memory"
            )
        now = self._clock()
        entry = CacheEntry(
            entry_id=exact_key(scope, cache_scope, session_id, prompt),
            scope=cache_scope,
            user_id="" if cache_scope is CacheScope.GLOBAL else scope.user_id,
            session_id=session_id if cache_scope is CacheScope.SESSION else "",
            model=prompt.model,
            question=plain_text(prompt.messages[-1].parts),
            answer=answer,
            usage=usage,
            tags=options.tags,
            cited_fact_ids=options.cited_fact_ids,
            holds_memory=options.holds_memory,
            create_time=now,
            expire_time=now + options.ttl,
        )
        await self._exact.put(scope.tenant, entry)
        return entry

    async def get_entry(self, scope: Scope, entry_id: str) -> CacheEntry:
        """Return an entry that the user may be served.

        Raises:
            NotFound: CACHE_ENTRY_NOT_FOUND, also for an entry of another user.
            Unavailable: the cache is down.
        """
        entry = await self._exact.get(scope.tenant, entry_id)
        if entry is None or entry.user_id not in ("", scope.user_id):
            raise NotFound(Reason.CACHE_ENTRY_NOT_FOUND, "cache entry", entry_id)
        return entry
