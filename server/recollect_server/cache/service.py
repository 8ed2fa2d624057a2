"""The answer cache: answers by the whole conversation that led to them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from recollect_server.cache.dialogue import Dialogue, dialogue_of, spoken_text
from recollect_server.cache.keys import (
    answer_key,
    exact_key,
    group_key,
    model_key,
    partition_of,
    question_key,
    same_key,
)
from recollect_server.cache.model import (
    DEFAULT_OPTIONS,
    CacheEntry,
    CacheOptions,
    CacheScope,
    CacheTier,
    LookupOptions,
    LookupResult,
    MissReason,
    Partition,
    StoredAnswer,
)
from recollect_server.cache.ports import AnswerStore, CacheRecords, Facts, Selector
from recollect_server.cache.semantic import SemanticTier
from recollect_server.cache.statistics import Statistics
from recollect_server.cache.vectors import MessageVectors
from recollect_server.cache.verifier import candidate_vector
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
        price: returns what a call of a model costs, in US dollars.
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        *,
        store: AnswerStore,
        records: CacheRecords,
        vectors: MessageVectors,
        semantic: SemanticTier,
        statistics: Statistics,
        facts: Facts,
        allow_global: bool,
        price: Callable[[str, Usage], float],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._records = records
        self._vectors = vectors
        self._semantic = semantic
        self._statistics = statistics
        self._facts = facts
        self._allow_global = allow_global
        self._price = price
        self._clock = clock
        self._embedding: set[asyncio.Task[None]] = set()

    def partition(self, scope: Scope, cache_scope: CacheScope, session_id: str) -> Partition:
        """Return where a user's answers of a scope belong.

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
        return partition_of(scope, cache_scope, session_id)

    def owners(self, scope: Scope) -> tuple[Scope, ...]:
        """Return whose entries a user may be served: the user's, and the tenant's if allowed."""
        return (scope, Scope(scope.tenant, "")) if self._allow_global else (scope,)

    def entry_id(
        self, scope: Scope, session_id: str, prompt: Prompt, cache_scope: CacheScope
    ) -> str:
        """Return the id that the answer to a prompt has or would have: equal requests, equal id.

        Raises as `partition` does.
        """
        return exact_key(self.partition(scope, cache_scope, session_id), prompt)

    async def lookup(
        self,
        scope: Scope,
        session_id: str,
        prompt: Prompt,
        *,
        cache_scope: CacheScope,
        options: LookupOptions = DEFAULT_OPTIONS,
        newest_fact: datetime | None = None,
    ) -> LookupResult:
        """Look for an answer; an outage is a miss with reason DEGRADED.

        Args:
            newest_fact: when the newest fact recalled for this prompt was recorded; an entry that
                is older misses.

        Raises as `partition` does.
        """
        partition = self.partition(scope, cache_scope, session_id)
        started = time.perf_counter()
        try:
            result = await self._lookup(partition, prompt, options, newest_fact)
        except Unavailable:
            result = LookupResult(None, miss_reason=MissReason.DEGRADED, answers_down=True)
        saved = self._price(result.entry.model, result.entry.usage) if result.entry else 0.0
        self._statistics.count(partition, result, time.perf_counter() - started, saved)
        return result

    async def newest_of(self, scope: Scope, fact_ids: Sequence[str]) -> datetime | None:
        """Return when the newest of these facts was recorded, None if there is none."""
        if not fact_ids:
            return None
        facts = await self._facts.get_facts(scope, fact_ids)
        return max((fact.recorded_at for fact in facts), default=None)

    async def _still_rests(self, scope: Scope, entry: CacheEntry) -> bool:
        """Whether the facts that an entry cites are as they were when it was made, and hold.

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

        An answer that was reported wrong for this very conversation is returned but not kept.

        Raises:
            InvalidArgument: GLOBAL for an answer whose prompt held a user's memory.
            Unavailable: the cache is down.
        """
        partition = self.partition(scope, cache_scope, session_id)
        if cache_scope is CacheScope.GLOBAL and options.holds_memory:
            raise InvalidArgument(
                "scope", "must be USER or SESSION for an answer that holds a user's memory"
            )
        now = self._clock()
        entry = CacheEntry(
            entry_id=exact_key(partition, prompt),
            scope=cache_scope,
            user_id=partition.owner.user_id,
            session_id=partition.session_id,
            model=prompt.model,
            question=plain_text(prompt.messages[-1].parts),
            answer=answer,
            usage=usage,
            tags=options.tags,
            cited_fact_ids=options.cited_fact_ids,
            holds_memory=options.holds_memory,
            create_time=min(options.context_time or now, now),
            expire_time=now + options.ttl,
        )
        if not await self._reported(partition, prompt, answer):
            found = await self._findable(partition, prompt, dialogue_of(prompt), entry)
            await self._store.put(partition.owner, replace(found, author=scope.user_id))
            self._embed_ahead(answer)
        return entry

    async def get_entry(self, scope: Scope, entry_id: str) -> CacheEntry:
        """Return an entry that the user may be served.

        Raises:
            NotFound: CACHE_ENTRY_NOT_FOUND, also for an entry of another user.
            Unavailable: the cache is down.
        """
        entry = await self._store.get(scope.tenant, entry_id)
        if (
            entry is None
            or entry.user_id not in ("", scope.user_id)
            or entry.expire_time <= self._clock()
        ):
            raise NotFound(Reason.CACHE_ENTRY_NOT_FOUND, "cache entry", entry_id)
        return entry

    async def forget_facts(self, scope: Scope, fact_ids: Sequence[str]) -> None:
        """Remove the entries that cite any of a user's facts; see `memory.forgetting.Listener`.

        Until it is done, lookups pass over them: see `_still_rests`.

        Raises:
            Unavailable: the cache is down; call again.
        """
        for owner in self.owners(scope):
            for fact_id in dict.fromkeys(fact_ids):
                entry_ids = await self._store.find(owner, Selector(fact_id=fact_id))
                await self._store.remove(owner, entry_ids)

    async def forget_session(self, scope: Scope, session_id: str) -> None:
        """Remove the entries of a session that was deleted; see `memory.forgetting.Listener`.

        Raises:
            Unavailable: the cache is down; call again.
        """
        partition = partition_of(scope, CacheScope.SESSION, session_id)
        entry_ids = await self._store.find(partition.owner, Selector(partition))
        await self._store.remove(partition.owner, entry_ids)

    async def _lookup(
        self,
        partition: Partition,
        prompt: Prompt,
        options: LookupOptions,
        newest_fact: datetime | None,
    ) -> LookupResult:
        reason = MissReason.NOT_FOUND
        if CacheTier.EXACT in options.tiers:
            entry = await self._exact(partition, prompt, options.any_model)
            unfit = reason if entry is None else await self._unfit(partition, entry, newest_fact)
            if unfit is None:
                return LookupResult(entry, tier=CacheTier.EXACT, probability=1.0)
            reason = unfit
        dialogue = dialogue_of(prompt)
        if CacheTier.SEMANTIC not in options.tiers or not dialogue.comparable:
            return LookupResult(None, miss_reason=reason)
        group = group_key(partition, prompt, dialogue, self._vectors.model)
        if not options.any_model:
            group = model_key(group, prompt.model)
        result = await self._semantic.lookup(partition, group, dialogue, options)
        if result.entry is not None:
            unfit = await self._unfit(partition, result.entry, newest_fact)
            if unfit is None:
                return result
            result = replace(result, entry=None, tier=None, probability=0.0, miss_reason=unfit)
        # What the exact tier knows of this very prompt says more than that nothing is like it.
        plain = result.miss_reason in (MissReason.NOT_FOUND, MissReason.BELOW_THRESHOLD)
        if plain and reason is not MissReason.NOT_FOUND:
            return replace(result, miss_reason=reason)
        return result

    async def _exact(
        self, partition: Partition, prompt: Prompt, any_model: bool
    ) -> CacheEntry | None:
        tenant = partition.owner.tenant
        entry = await self._store.get(tenant, exact_key(partition, prompt))
        if entry is not None or not any_model:
            return entry
        entry_id = await self._store.same(partition.owner, same_key(partition, prompt))
        entry = await self._store.get(tenant, entry_id) if entry_id else None
        # What is reported of an answer removes the entry that it was, and no other model's.
        if entry is None or await self._reported(partition, prompt, entry.answer):
            return None
        return entry

    async def _reported(
        self, partition: Partition, prompt: Prompt, answer: tuple[Part, ...]
    ) -> bool:
        """Whether an answer was reported wrong for this very conversation."""
        stones = await self._records.tombstones(partition, answer_key(answer))
        return question_key(dialogue_of(prompt)) in {stone.question for stone in stones}

    async def _unfit(
        self, partition: Partition, entry: CacheEntry, newest_fact: datetime | None
    ) -> MissReason | None:
        if entry.expire_time <= self._clock():
            return MissReason.EXPIRED
        if newest_fact is not None and newest_fact > entry.create_time:
            return MissReason.NEWER_MEMORY
        if not await self._still_rests(partition.owner, entry):
            return MissReason.NEWER_MEMORY
        return None

    async def _findable(
        self, partition: Partition, prompt: Prompt, dialogue: Dialogue, entry: CacheEntry
    ) -> StoredAnswer:
        """Return an entry with its vectors; without an embedder the exact tier alone has it."""
        group = group_key(partition, prompt, dialogue, self._vectors.model)
        stored = StoredAnswer(
            entry,
            question=question_key(dialogue),
            same=same_key(partition, prompt),
            group=group,
            model_group=model_key(group, prompt.model),
        )
        if not dialogue.comparable:
            return stored
        try:
            conversation = await self._vectors.conversation(dialogue)
        except Unavailable:
            return stored
        return replace(stored, conversation=conversation, candidate=candidate_vector(conversation))

    def _embed_ahead(self, answer: tuple[Part, ...]) -> None:
        """Embed an answer while nobody waits for it: it is part of the next prompt."""

        async def embed(text: str) -> None:
            try:
                await self._vectors.of((text,))
            except Unavailable:
                return

        text = spoken_text(answer)
        if text.strip():
            task = asyncio.create_task(embed(text))
            self._embedding.add(task)
            task.add_done_callback(self._embedding.discard)
