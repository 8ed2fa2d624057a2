"""Resident corpora: one a user, fresh at every search, bounded in bytes."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog

from recollect_server.errors import Unavailable
from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.memory.ports import (
    Embedder,
    IndexChanges,
    IndexResult,
    IndexSource,
    RecallFilter,
)
from recollect_server.memory.recall import Corpus, analyse, rank
from recollect_server.scope import Scope

T = TypeVar("T")

log = structlog.get_logger("recollect.exact_index")

DEFAULT_BUDGET = 256 * 1024 * 1024
"""Bytes of all resident corpora together."""

# Above these the work takes longer than a few milliseconds and leaves the event loop alone.
_LARGE_CHANGE = 50
_LARGE_CORPUS = 3_000


class _Resident:
    """A user's corpus and how fresh it is; changed and read only under its lock."""

    def __init__(self) -> None:
        self.corpus = Corpus()
        self.revision = 0
        self.indexed_revision = 0
        self.lock = asyncio.Lock()
        self.searches = 0
        self.nbytes = 0

    def apply(self, changes: IndexChanges, *, complete: bool) -> None:
        """Bring the corpus to the changes' revision."""
        # Until all is in, the revision says that nothing is: a failure half way loads anew.
        self.revision = self.indexed_revision = 0
        if complete:
            kept = {(item.kind, item.item_id) for item in changes.upserts}
            self.corpus.remove([key for key in self.corpus if key not in kept])
        self.corpus.remove(changes.deletes)
        self.corpus.upsert(changes.upserts)
        self.revision = changes.revision
        self.indexed_revision = changes.indexed_revision


class ExactIndex:
    """The `RecallIndex` that ranks all of a user's items, none approximately.

    A user's corpus is loaded at the first search and brought up to date at each one by the user's
    revision, so writes of other processes are seen too. Least recently searched users are dropped
    when all together exceed the budget; the last one stays even if it alone exceeds it.

    Args:
        budget: bytes of all resident corpora together, as `Corpus.nbytes` estimates them.
    """

    def __init__(
        self, source: IndexSource, embedder: Embedder, *, budget: int = DEFAULT_BUDGET
    ) -> None:
        self._source = source
        self._embedder = embedder
        self._budget = budget
        self._residents: OrderedDict[Scope, _Resident] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Estimated bytes of all resident corpora."""
        return self._nbytes

    def resident_scopes(self) -> tuple[Scope, ...]:
        """Users in memory, least recently searched first."""
        return tuple(self._residents)

    def drop(self, scope: Scope) -> None:
        """Forget a user's corpus; the next search loads it anew."""
        resident = self._residents.pop(scope, None)
        if resident is not None:
            self._nbytes -= resident.nbytes

    def forget_user(self, scope: Scope) -> int:
        """Forget a user's corpus; return how many items it had."""
        resident = self._residents.get(scope)
        self.drop(scope)
        return 0 if resident is None else len(resident.corpus)

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
        with self._using(scope) as resident:
            async with resident.lock:
                await self._refresh(scope, resident)
                if not len(resident.corpus) or not query.strip():
                    return IndexResult((), resident.indexed_revision, degraded=False)
                asked = analyse(query, resident.corpus)
            # Not under the lock, so that the user's searches are embedded in one batch.
            vector = await self._embed(asked.embedding_text)
            async with resident.lock:
                ranked = await _run(
                    lambda: rank(resident.corpus, asked, vector, kinds, filter, limit),
                    large=len(resident.corpus) > _LARGE_CORPUS,
                )
                return IndexResult(
                    tuple(ranked), resident.indexed_revision, degraded=vector is None
                )

    @contextlib.contextmanager
    def _using(self, scope: Scope) -> Iterator[_Resident]:
        """Keep the user's corpus in memory meanwhile, then account for its size."""
        resident = self._residents.setdefault(scope, _Resident())
        self._residents.move_to_end(scope)
        resident.searches += 1
        try:
            yield resident
        finally:
            resident.searches -= 1
            if self._residents.get(scope) is resident:
                self._account(scope, resident)

    def _account(self, scope: Scope, resident: _Resident) -> None:
        size = resident.corpus.nbytes
        self._nbytes += size - resident.nbytes
        resident.nbytes = size
        if not len(resident.corpus) and not resident.searches:
            self.drop(scope)
        idle = [s for s, r in self._oldest() if not r.searches] if self._over() else []
        for oldest in idle:
            if not self._over():
                break
            self.drop(oldest)

    def _over(self) -> bool:
        return self._nbytes > self._budget

    def _oldest(self) -> list[tuple[Scope, _Resident]]:
        return list(self._residents.items())[:-1]

    async def _refresh(self, scope: Scope, resident: _Resident) -> None:
        revision, indexed = await self._source.user_revision(scope)
        if (revision, indexed) == (resident.revision, resident.indexed_revision):
            return
        # A vector is a change of its own, so what is embedded later comes with a later revision. A
        # revision that went back belongs to a user erased or restored meanwhile.
        since = 0 if revision < resident.revision else resident.revision
        changes = await self._source.index_changes(scope, since, self._embedder.model)
        complete = changes.complete or since == 0
        size = len(changes.upserts)
        await _run(lambda: resident.apply(changes, complete=complete), large=size > _LARGE_CHANGE)

    async def _embed(self, text: str) -> Vector | None:
        try:
            vectors = await self._embedder.embed([text])
        except Unavailable as error:
            log.warning("query not embedded, words alone rank", reason=error.reason)
            return None
        vector: Vector = vectors[0]
        return vector


async def _run(work: Callable[[], T], *, large: bool) -> T:
    """Do the work here, or in a thread if it is large.

    A thread cannot be cancelled, so a cancelled caller waits for its end: what it changes stays
    under the caller's lock until then.
    """
    if not large:
        return work()
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        raise
