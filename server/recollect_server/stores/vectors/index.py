"""Recall for more items than one process can rank by their vectors.

The words, times and speakers of a user's items are resident, as in the exact index; vectors are
not. Candidates are what the vector store finds by meaning and what words find; they are ranked by
exactly the exact index's rules, with their vectors read from SQL. Few items need no vector store.
"""

from collections.abc import Callable
from datetime import datetime

import structlog

from recollect_server.errors import Unavailable
from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.memory.ports import (
    Embedder,
    IndexChanges,
    IndexResult,
    IndexSource,
    Ranked,
    RecallFilter,
)
from recollect_server.memory.recall import CandidateEvidence, Candidates, Query, analyse, rank
from recollect_server.memory.vector_store import (
    FeedState,
    ItemKey,
    RegisteredStore,
    VectorFilter,
    VectorSource,
    VectorStore,
)
from recollect_server.scope import Scope
from recollect_server.stores.exact.residents import (
    DEFAULT_BUDGET,
    Resident,
    Residents,
    embed_query,
    utc_now,
)
from recollect_server.timing import Timings

log = structlog.get_logger("recollect.vector_index")

BY_MEANING = 200
"""Candidates from the vector store, when no more than that are asked for."""

BY_WORDS = 100
FEW = 500
"""Up to so many items that pass the filter are all candidates, and nothing is approximate."""

MOST = 2_000
"""Candidates asked of the store where a filter that it does not know leaves few of them."""


class _WordsOnly:
    """An `IndexSource` whose items have no vectors, so that none are loaded."""

    def __init__(self, source: IndexSource) -> None:
        self._source = source

    async def user_revision(self, scope: Scope) -> tuple[int, int]:
        revision, _ = await self._source.user_revision(scope)
        return revision, revision

    async def index_changes(self, scope: Scope, since: int, model: str) -> IndexChanges:
        changes = await self._source.index_changes(scope, since, "")
        return IndexChanges(
            changes.revision, changes.revision, changes.upserts, changes.deletes, changes.complete
        )

    async def hurry(self, scope: Scope) -> None:
        await self._source.hurry(scope)


class VectorIndex:
    """The `RecallIndex` over a vector store.

    Args:
        registered: the store's registration.
        state: tells how far the store is behind.
        vectors: where the candidates' vectors are read.
        few: up to so many items that pass the filter are ranked without the store.
        clock, stages: as in the exact index.
    """

    def __init__(
        self,
        source: IndexSource,
        embedder: Embedder,
        *,
        store: VectorStore,
        registered: RegisteredStore,
        state: FeedState,
        vectors: VectorSource,
        budget: int = DEFAULT_BUDGET,
        few: int = FEW,
        clock: Callable[[], datetime] = utc_now,
        stages: Timings | None = None,
    ) -> None:
        self._stages = stages or Timings("stage")
        self._residents = Residents(_WordsOnly(source), embedder.model, budget)
        self._embedder = embedder
        self._clock = clock
        self._store = store
        self._registered = registered
        self._state = state
        self._vectors = vectors
        self._few = few

    def forget_user(self, scope: Scope) -> int:
        """See `RecallIndex`."""
        return self._residents.forget(scope)

    @property
    def nbytes(self) -> int:
        """See `RecallIndex`."""
        return self._residents.nbytes

    @property
    def resident_users(self) -> int:
        """See `RecallIndex`."""
        return len(self._residents.scopes())

    def expect(self, scope: Scope, query: str) -> None:
        """See `RecallIndex`."""
        self._residents.expect(scope, query, self._embedder)

    async def search(
        self,
        scope: Scope,
        query: str,
        *,
        kinds: frozenset[MemoryKind],
        filter: RecallFilter,
        limit: int,
    ) -> IndexResult:
        """Return the best `limit` items of the user. Raises `Unavailable` if SQL is down."""
        # Meanwhile it is seen whether the user's items have changed.
        self.expect(scope, query)
        with self._residents.using(scope) as resident:
            _, indexed = await self._state.indexed_revision(self._registered, scope)
            async with resident.lock:
                with self._stages.time("refresh"):
                    await self._residents.refresh(scope, resident)
                if not len(resident.corpus) or not query.strip():
                    return IndexResult((), indexed, degraded=False)
                asked = analyse(query, resident.corpus, self._clock())
            with self._stages.time("embed"):
                vector = await embed_query(self._embedder, asked.embedding_text)
            ranked = None
            if vector is not None:
                ranked = await self._ranked(scope, resident, asked, vector, kinds, filter, limit)
            degraded = ranked is None
            if ranked is None:
                ranked = await resident.run(
                    lambda: rank(resident.corpus, asked, None, kinds, filter, limit)
                )
            return IndexResult(tuple(ranked), indexed, degraded=degraded)

    async def _ranked(
        self,
        scope: Scope,
        resident: Resident,
        asked: Query,
        vector: Vector,
        kinds: frozenset[MemoryKind],
        filter: RecallFilter,
        limit: int,
    ) -> list[Ranked] | None:
        """Return the best items, None if the store does not answer."""
        corpus = resident.corpus

        def by_words() -> tuple[int, int, set[ItemKey]]:
            candidates = Candidates(corpus, asked, kinds, filter)
            passing = candidates.passing
            few = passing <= self._few
            return (
                passing,
                candidates.total,
                candidates.all() if few else candidates.by_words(max(BY_WORDS, limit)),
            )

        with self._stages.time("candidates"):
            passing, total, keys = await resident.run(by_words)
            if passing > self._few:
                found = await self._by_meaning(scope, vector, kinds, filter, limit, passing, total)
                if found is None:
                    return None
                keys |= found
        near = await resident.run(
            lambda: Candidates(corpus, asked, kinds, filter).neighbourhood(keys)
        )
        vectors = await self._vectors.read_vectors(scope, near, self._embedder.model)

        def best() -> list[Ranked]:
            evidence = CandidateEvidence(corpus, asked, vector, kinds, keys, vectors)
            return rank(corpus, asked, vector, kinds, filter, limit, evidence=evidence)

        with self._stages.time("rank"):
            return await resident.run(best)

    async def _by_meaning(
        self,
        scope: Scope,
        vector: Vector,
        kinds: frozenset[MemoryKind],
        filter: RecallFilter,
        limit: int,
        passing: int,
        total: int,
    ) -> set[ItemKey] | None:
        """Return the nearest items, None if the store does not answer."""
        wanted = max(BY_MEANING, 2 * limit)
        if filter.metadata:
            # The store does not know metadata; the more it hides, the more candidates it takes.
            wanted = min(MOST, wanted * max(1, total // max(1, passing)))
        within = VectorFilter(kinds, filter.session_ids, filter.start, filter.end)
        try:
            hits = await self._store.search(scope, vector, within, wanted)
        except Unavailable as error:
            log.warning("vector store down, words alone rank", reason=error.reason)
            return None
        return {(hit.kind, hit.item_id) for hit in hits}
