"""What people do with the answer cache beside using it: look, remove, judge, count."""

from collections.abc import Sequence
from dataclasses import dataclass

from recollect_server.cache.conversation import Verifier
from recollect_server.cache.dialogue import Dialogue, dialogue_of
from recollect_server.cache.keys import answer_key, question_key
from recollect_server.cache.model import (
    CacheEntry,
    CacheScope,
    CacheStats,
    CacheTier,
    Feedback,
    StoredAnswer,
    Verdict,
)
from recollect_server.cache.ports import AnswerStore, CacheRecords, Selector
from recollect_server.cache.service import AnswerCache
from recollect_server.cache.statistics import (
    SAVED_MICRODOLLARS,
    Statistics,
    hits,
    median_seconds,
    misses,
    saved_usage,
)
from recollect_server.cache.vectors import MessageVectors
from recollect_server.cache.verifier import candidate_vector
from recollect_server.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Reason,
    Unavailable,
)
from recollect_server.memory.model import Vector
from recollect_server.memory.prompt import Prompt
from recollect_server.scope import Scope

BATCH = 100


@dataclass(frozen=True, slots=True)
class Doomed:
    """Which entries to remove: what one of the fields says; of all tiers and models.

    Attributes:
        scope: all entries of this scope, in `session_id` if it is SESSION.
        similar: all entries whose conversation has a cosine of at least `min_similarity` to it.
    """

    entry_id: str | None = None
    scope: CacheScope | None = None
    session_id: str = ""
    tag: str | None = None
    fact_id: str | None = None
    similar: Prompt | None = None
    min_similarity: float = 1.0


class CacheMaintenance:
    """Lists, removes and judges entries, and says what was counted."""

    def __init__(
        self,
        cache: AnswerCache,
        store: AnswerStore,
        records: CacheRecords,
        vectors: MessageVectors,
        verifier: Verifier,
        statistics: Statistics,
    ) -> None:
        self._cache = cache
        self._store = store
        self._records = records
        self._vectors = vectors
        self._verifier = verifier
        self._statistics = statistics

    async def list_entries(
        self,
        scope: Scope,
        cache_scope: CacheScope,
        session_id: str,
        *,
        limit: int,
        after: tuple[int, str] | None,
    ) -> tuple[tuple[CacheEntry, ...], tuple[int, str] | None]:
        """Return entries, newest first, and the cursor of the next page, None at the end."""
        partition = self._cache.partition(scope, cache_scope, session_id)
        rows = await self._store.page(partition, limit=limit, after=after)
        answers = await self._store.get_many(scope.tenant, [name for _, name in rows])
        cursor = rows[-1] if len(rows) == limit else None
        return tuple(answer.entry for answer in answers if answer is not None), cursor

    async def invalidate(
        self, scope: Scope, doomed: Doomed, *, dry_run: bool, everyones: bool
    ) -> int:
        """Remove entries, or with `dry_run` none; return how many.

        Args:
            everyones: the caller may remove GLOBAL answers too.

        Raises:
            PermissionDenied: GLOBAL is named and the caller may not.
            InvalidArgument: `similar` ends in no text of the user, or SESSION names no session.
            Unavailable: the cache is down, or for `similar` the embedder.
        """
        if doomed.scope is CacheScope.GLOBAL and not everyones:
            raise PermissionDenied(
                Reason.ROLE_REQUIRED, "only a service credential may remove GLOBAL answers"
            )
        if doomed.scope is CacheScope.SESSION and not doomed.session_id:
            raise InvalidArgument("scope.session_id", "must be set for scope SESSION")
        if doomed.scope is not None:
            partition = self._cache.partition(scope, doomed.scope, doomed.session_id)
            found = await self._store.find(partition.owner, Selector(partition))
            return await self._remove(partition.owner, found, dry_run)
        similar = await self._vector(doomed.similar) if doomed.similar is not None else None
        count = 0
        for owner in self._cache.owners(scope) if everyones else (scope,):
            if doomed.entry_id is not None:
                ids = await self._of(owner, doomed.entry_id)
            else:
                selector = Selector(tag=doomed.tag, fact_id=doomed.fact_id)
                ids = await self._store.find(owner, selector)
            if similar is not None:
                ids = await self._like(owner, ids, similar, doomed.min_similarity)
            count += await self._remove(owner, ids, dry_run)
        return count

    async def report(self, scope: Scope, entry_id: str, prompt: Prompt, verdict: Verdict) -> None:
        """Keep what somebody said of an answer that was served to a prompt.

        A wrong answer is not served to that conversation again, nor to one that is nearer to it
        than to the entry's own.

        Raises:
            NotFound: CACHE_ENTRY_NOT_FOUND.
            Unavailable: a store is down; nothing is acknowledged that would be forgotten.
        """
        (answer,) = await self._store.get_many(scope.tenant, [entry_id])
        if answer is None or answer.entry.user_id not in ("", scope.user_id):
            raise NotFound(Reason.CACHE_ENTRY_NOT_FOUND, "cache entry", entry_id)
        partition = answer.entry.partition(scope.tenant)
        dialogue = dialogue_of(prompt)
        probability, vector = await self._judge(dialogue, answer)
        feedback = Feedback(
            entry_id=entry_id,
            question=question_key(dialogue),
            answer=answer_key(answer.entry.answer),
            verdict=verdict,
            probability=probability,
            vector=vector,
            vector_model=self._vectors.model if vector is not None else "",
        )
        await self._records.report(partition, feedback)
        if verdict is Verdict.WRONG and feedback.question == answer.question:
            await self._store.remove(partition.owner, [entry_id])

    async def stats(self, scope: Scope, cache_scope: CacheScope, session_id: str) -> CacheStats:
        """Return what was counted; lookups of other processes up to a second ago.

        Raises:
            Unavailable: the database or the cache is down.
        """
        partition = self._cache.partition(scope, cache_scope, session_id)
        await self._statistics.flush()
        counts = await self._records.counts(partition)
        verdicts = await self._records.verdicts(partition)
        entries, entry_bytes = await self._store.size(partition)
        return CacheStats(
            exact_hits=hits(counts, CacheTier.EXACT),
            semantic_hits=hits(counts, CacheTier.SEMANTIC),
            misses=misses(counts),
            saved_usage=saved_usage(counts),
            saved_usd=counts.get(SAVED_MICRODOLLARS, 0) / 1_000_000,
            reported_wrong=verdicts.get(Verdict.WRONG, 0),
            reported_right=verdicts.get(Verdict.RIGHT, 0),
            entries=entries,
            entry_bytes=entry_bytes,
            median_seconds=median_seconds(counts),
        )

    async def erase(self, scope: Scope) -> int:
        """Remove everything of a user; return how many entries there were.

        Raises:
            Unavailable: a store is down; call again.
        """
        found = await self._store.find(scope, Selector())
        await self._store.remove(scope, found)
        await self._statistics.flush()
        await self._records.erase(scope)
        return len(found)

    async def _remove(self, owner: Scope, entry_ids: Sequence[str], dry_run: bool) -> int:
        if not dry_run:
            await self._store.remove(owner, entry_ids)
        return len(entry_ids)

    async def _of(self, owner: Scope, entry_id: str) -> tuple[str, ...]:
        entry = await self._store.get(owner.tenant, entry_id)
        return (entry_id,) if entry is not None and entry.user_id == owner.user_id else ()

    async def _vector(self, prompt: Prompt) -> Vector:
        dialogue = dialogue_of(prompt)
        if not dialogue.comparable:
            raise InvalidArgument("similar.prompt.messages", "must end in a text of the user")
        return candidate_vector(await self._vectors.conversation(dialogue))

    async def _like(
        self, owner: Scope, entry_ids: Sequence[str], vector: Vector, min_similarity: float
    ) -> tuple[str, ...]:
        found: list[str] = []
        for start in range(0, len(entry_ids), BATCH):
            for answer in await self._store.get_many(
                owner.tenant, entry_ids[start : start + BATCH]
            ):
                spoken = answer.conversation if answer is not None else None
                if answer is None or spoken is None or spoken.model != self._vectors.model:
                    continue
                if float(candidate_vector(spoken) @ vector) >= min_similarity - 1e-3:
                    found.append(answer.entry.entry_id)
        return tuple(found)

    async def _judge(
        self, dialogue: Dialogue, answer: StoredAnswer
    ) -> tuple[float | None, Vector | None]:
        """Return what the verifier thinks of a pair, and the question's vector, where there are."""
        if not dialogue.comparable:
            return None, None
        try:
            asked = await self._vectors.conversation(dialogue)
        except Unavailable:
            return None, None
        stored = answer.conversation
        if stored is None or stored.model != asked.model:
            return None, candidate_vector(asked)
        return float(self._verifier.probabilities(asked, [stored])[0]), candidate_vector(asked)
