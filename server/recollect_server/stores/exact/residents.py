"""Resident corpora: one a user, fresh at every search, bounded in bytes."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from recollect_server.errors import Unavailable
from recollect_server.memory.model import Vector
from recollect_server.memory.ports import (
    Embedder,
    IndexChanges,
    IndexSource,
)
from recollect_server.memory.recall import Corpus, question_text
from recollect_server.scope import Scope

T = TypeVar("T")

log = structlog.get_logger("recollect.recall")

DEFAULT_BUDGET = 256 * 1024 * 1024
"""Bytes of all resident corpora together."""

# Above these the work takes longer than a few milliseconds and leaves the event loop alone.
_LARGE_CHANGE = 50
_LARGE_CORPUS = 3_000


class Resident:
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

    async def run(self, work: Callable[[], T]) -> T:
        """Do work on the corpus under its lock; in a thread if the corpus is large."""
        async with self.lock:
            return await _run(work, large=len(self.corpus) > _LARGE_CORPUS)


class Residents:
    """Corpora of the users who were searched last.

    A user's corpus is loaded at the first search and brought up to date at each one by the user's
    revision, so writes of other processes are seen too. Least recently searched users are dropped
    when all together exceed the budget; the last one stays even if it alone exceeds it.

    Args:
        model: whose vectors are loaded.
        budget: bytes of all resident corpora together, as `Corpus.nbytes` estimates them.

    Attributes:
        nbytes: estimated bytes of all resident corpora.
    """

    def __init__(self, source: IndexSource, model: str, budget: int = DEFAULT_BUDGET) -> None:
        self._source = source
        self._model = model
        self._budget = budget
        self._residents: OrderedDict[Scope, Resident] = OrderedDict()
        self.nbytes = 0

    def scopes(self) -> tuple[Scope, ...]:
        """Users in memory, least recently searched first."""
        return tuple(self._residents)

    def drop(self, scope: Scope) -> None:
        """Forget a user's corpus; the next search loads it anew."""
        resident = self._residents.pop(scope, None)
        if resident is not None:
            self.nbytes -= resident.nbytes

    def forget(self, scope: Scope) -> int:
        """Drop a user's corpus; return how many items it had."""
        resident = self._residents.get(scope)
        self.drop(scope)
        return 0 if resident is None else len(resident.corpus)

    def expect(self, scope: Scope, query: str, embedder: Embedder) -> None:
        """Begin to embed a query, as it reads beside the items that are known by now."""
        resident = self._residents.get(scope)
        # What another thread changes cannot be read, and all else is a guess that mostly holds.
        if resident is not None and query.strip() and not resident.lock.locked():
            embedder.expect(question_text(query, resident.corpus))

    @contextlib.contextmanager
    def using(self, scope: Scope) -> Iterator[Resident]:
        """Keep the user's corpus in memory meanwhile, then account for its size."""
        resident = self._residents.get(scope)
        if resident is None:
            resident = self._residents[scope] = Resident()
        self._residents.move_to_end(scope)
        resident.searches += 1
        try:
            yield resident
        finally:
            resident.searches -= 1
            if self._residents.get(scope) is resident:
                self._account(scope, resident)

    def _account(self, scope: Scope, resident: Resident) -> None:
        size = resident.corpus.nbytes
        self.nbytes += size - resident.nbytes
        resident.nbytes = size
        if not len(resident.corpus) and not resident.searches:
            self.drop(scope)
        idle = [s for s, r in self._oldest() if not r.searches] if self._over() else []
        for oldest in idle:
            if not self._over():
                break
            self.drop(oldest)

    def _over(self) -> bool:
        return self.nbytes > self._budget

    def _oldest(self) -> list[tuple[Scope, Resident]]:
        return list(self._residents.items())[:-1]

    async def refresh(self, scope: Scope, resident: Resident) -> None:
        """Bring a corpus up to date, under its lock. Raises `Unavailable` if SQL is down."""
        revision, indexed = await self._source.user_revision(scope)
        if (revision, indexed) == (resident.revision, resident.indexed_revision):
            return
        # A vector is a change of its own, so what is embedded later comes with a later revision. A
        # revision that went back belongs to a user erased or restored meanwhile.
        since = 0 if revision < resident.revision else resident.revision
        changes = await self._source.index_changes(scope, since, self._model)
        complete = changes.complete or since == 0
        size = len(changes.upserts)
        await _run(lambda: resident.apply(changes, complete=complete), large=size > _LARGE_CHANGE)


def utc_now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


async def embed_query(embedder: Embedder, text: str) -> Vector | None:
    """Return a query's vector, None while the model does not answer."""
    try:
        vectors = await embedder.embed([text])
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
