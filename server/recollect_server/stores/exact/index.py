"""The exact index: every item of the user is ranked, in this process's memory."""

from collections.abc import Callable
from datetime import datetime

from recollect_server.memory.model import MemoryKind
from recollect_server.memory.ports import Embedder, IndexResult, IndexSource, RecallFilter
from recollect_server.memory.recall import analyse, rank
from recollect_server.scope import Scope
from recollect_server.stores.exact.residents import DEFAULT_BUDGET, Residents, embed_query, utc_now
from recollect_server.timing import Timings


class ExactIndex:
    """The `RecallIndex` that ranks all of a user's items, none approximately.

    Args:
        budget: bytes of all resident corpora together, as in `Residents`.
        clock: returns the present as an aware datetime; its zone says when a day begins.
        stages: counts what parts of a search take: `refresh`, `embed`, `rank`, and `candidates`
            where a vector store finds them.

    Attributes:
        residents: the corpora in memory.
    """

    def __init__(
        self,
        source: IndexSource,
        embedder: Embedder,
        *,
        budget: int = DEFAULT_BUDGET,
        clock: Callable[[], datetime] = utc_now,
        stages: Timings | None = None,
    ) -> None:
        self._stages = stages or Timings("stage")
        self.residents = Residents(source, embedder.model, budget)
        self._embedder = embedder
        self._clock = clock

    @property
    def nbytes(self) -> int:
        """See `RecallIndex`."""
        return self.residents.nbytes

    @property
    def resident_users(self) -> int:
        """See `RecallIndex`."""
        return len(self.residents.scopes())

    def forget_user(self, scope: Scope) -> int:
        """See `RecallIndex`."""
        return self.residents.forget(scope)

    def expect(self, scope: Scope, query: str) -> None:
        """See `RecallIndex`."""
        self.residents.expect(scope, query, self._embedder)

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
        with self.residents.using(scope) as resident:
            async with resident.lock:
                with self._stages.time("refresh"):
                    await self.residents.refresh(scope, resident)
                if not len(resident.corpus) or not query.strip():
                    return IndexResult((), resident.indexed_revision, degraded=False)
                asked = analyse(query, resident.corpus, self._clock())
            # Not under the lock, so that the user's searches are embedded in one batch.
            with self._stages.time("embed"):
                vector = await embed_query(self._embedder, asked.embedding_text)
            with self._stages.time("rank"):
                ranked, indexed = await resident.run(
                    lambda: (
                        rank(resident.corpus, asked, vector, kinds, filter, limit),
                        resident.indexed_revision,
                    )
                )
            return IndexResult(tuple(ranked), indexed, degraded=vector is None)
