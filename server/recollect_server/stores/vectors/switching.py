"""Which index answers: the one that SQL names, noticed within a second."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from recollect_server.errors import RecollectError, Unavailable
from recollect_server.memory.model import MemoryKind
from recollect_server.memory.ports import (
    IndexChanges,
    IndexResult,
    IndexSource,
    RecallFilter,
    RecallIndex,
)
from recollect_server.memory.vector_store import (
    EXACT_URL,
    FeedState,
    RegisteredStore,
    VectorFeeds,
    VectorStoreState,
)
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.switching")

POLL_SECONDS = 1.0


class SwitchingIndex:
    """The `RecallIndex` in use, and an `IndexSource` that says how fresh that one is.

    Args:
        make_exact: returns an exact index.
        make_vector: returns an index over a registered store.
        model: the embedding model; a store with points of another one is not used.
        ping: whether a store answers.
    """

    def __init__(
        self,
        feeds: VectorFeeds,
        state: FeedState,
        source: IndexSource,
        *,
        make_exact: Callable[[], RecallIndex],
        make_vector: Callable[[RegisteredStore], RecallIndex],
        model: str,
        ping: Callable[[RegisteredStore], Awaitable[bool]],
    ) -> None:
        self._ping = ping
        self._feeds = feeds
        self._state = state
        self._source = source
        self._make_exact = make_exact
        self._make_vector = make_vector
        self._model = model
        self._index = make_exact()
        self._active: RegisteredStore | None = None

    @property
    def active(self) -> RegisteredStore | None:
        """The vector store in use, None for the exact index."""
        return self._active

    @property
    def kind(self) -> str:
        """The kind of what answers, as in `exact` or `chroma`."""
        if self._active is None:
            return EXACT_URL.rstrip(":")
        return self._active.url.partition(":")[0].partition("+")[0]

    @property
    def nbytes(self) -> int:
        """See `RecallIndex`."""
        return self._index.nbytes

    @property
    def resident_users(self) -> int:
        """See `RecallIndex`."""
        return self._index.resident_users

    async def available(self) -> bool:
        """Whether what answers does not rank by words alone for want of its store."""
        return self._active is None or await self._ping(self._active)

    async def run(self) -> None:
        """Follow what SQL names until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except Unavailable as error:
                log.warning("store unavailable, the index stays", reason=error.reason)

    async def refresh(self) -> None:
        """Change to the index that SQL names. Raises `Unavailable` if SQL is down."""
        named = next(
            (
                store
                for store in await self._feeds.stores()
                if store.state is VectorStoreState.ACTIVE
                and store.url != EXACT_URL
                and store.model == self._model
            ),
            None,
        )
        if _key(named) == _key(self._active):
            return
        try:
            index = self._make_exact() if named is None else self._make_vector(named)
        except RecollectError as error:
            log.error("the vector store in use cannot be opened", error=error.message)
            return
        # Calls under way go on with the index they began with.
        self._index, self._active = index, named
        log.info("index changed", url=EXACT_URL if named is None else named.url)

    def forget_user(self, scope: Scope) -> int:
        """See `RecallIndex`."""
        return self._index.forget_user(scope)

    def expect(self, scope: Scope, query: str) -> None:
        """See `RecallIndex`."""
        self._index.expect(scope, query)

    async def search(
        self,
        scope: Scope,
        query: str,
        *,
        kinds: frozenset[MemoryKind],
        filter: RecallFilter,
        limit: int,
    ) -> IndexResult:
        """See `RecallIndex`."""
        return await self._index.search(scope, query, kinds=kinds, filter=filter, limit=limit)

    async def user_revision(self, scope: Scope) -> tuple[int, int]:
        """See `IndexSource`: the second is what the index in use has."""
        if self._active is None:
            return await self._source.user_revision(scope)
        return await self._state.indexed_revision(self._active, scope)

    async def index_changes(self, scope: Scope, since: int, model: str) -> IndexChanges:
        """See `IndexSource`."""
        return await self._source.index_changes(scope, since, model)

    async def hurry(self, scope: Scope) -> None:
        """See `IndexSource`."""
        await self._source.hurry(scope)


def _key(store: RegisteredStore | None) -> int | None:
    return None if store is None else store.store_key
