"""The exact index: every item of the user is ranked, in this process's memory."""

from recollect_server.memory.model import MemoryKind
from recollect_server.memory.ports import Embedder, IndexResult, IndexSource, RecallFilter
from recollect_server.memory.recall import analyse, rank
from recollect_server.scope import Scope
from recollect_server.stores.exact.residents import DEFAULT_BUDGET, Residents, embed_query


class ExactIndex:
    """The `RecallIndex` that ranks all of a user's items, none approximately.

    Args:
        budget: bytes of all resident corpora together, as in `Residents`.

    Attributes:
        residents: the corpora in memory.
    """

    def __init__(
        self, source: IndexSource, embedder: Embedder, *, budget: int = DEFAULT_BUDGET
    ) -> None:
        self.residents = Residents(source, embedder.model, budget)
        self._embedder = embedder

    def forget_user(self, scope: Scope) -> int:
        """See `RecallIndex`."""
        return self.residents.forget(scope)

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
        with self.residents.using(scope) as resident:
            async with resident.lock:
                await self.residents.refresh(scope, resident)
                if not len(resident.corpus) or not query.strip():
                    return IndexResult((), resident.indexed_revision, degraded=False)
                asked = analyse(query, resident.corpus)
            # Not under the lock, so that the user's searches are embedded in one batch.
            vector = await embed_query(self._embedder, asked.embedding_text)
            ranked, indexed = await resident.run(
                lambda: (
                    rank(resident.corpus, asked, vector, kinds, filter, limit),
                    resident.indexed_revision,
                )
            )
            return IndexResult(tuple(ranked), indexed, degraded=vector is None)
