"""The vector stores of a process: who answers, who feeds, who moves."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from recollect_server.admin.erasure import INDEX, UserData
from recollect_server.config import Settings
from recollect_server.errors import InvalidArgument, Unavailable
from recollect_server.memory.feeding import Feeder
from recollect_server.memory.ports import Embedder, IndexSource, RecallIndex
from recollect_server.memory.reindexing import Reindexing
from recollect_server.memory.vector_store import (
    EXACT_URL,
    OpenVectorStore,
    RegisteredStore,
    VectorStore,
)
from recollect_server.parts import StartError, utc_now
from recollect_server.scope import Scope
from recollect_server.stores.exact import ExactIndex
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.vector_feeds import SqlVectorFeeds
from recollect_server.stores.sql.vector_outbox import PGVECTOR_URL
from recollect_server.stores.sql.vectors import SqlVectorSource
from recollect_server.stores.vectors import SwitchingIndex, VectorConnections, VectorIndex
from recollect_server.timing import Timings

log = structlog.get_logger("recollect.vectors")

OBEY_SECONDS = 5.0
_NOBODY = Scope("", "")


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a server needs of its vector stores.

    Attributes:
        index: answers recalls.
        places: returns the stores outside SQL, as an erasure sees them.
        loops: to run meanwhile, by name.
        stages: what parts of recalls took; see `ExactIndex`.
    """

    index: SwitchingIndex
    places: Callable[[], Awaitable[tuple[UserData, ...]]]
    reindexing: Reindexing
    loops: dict[str, Callable[[], Awaitable[None]]]
    stages: Timings


class StoredVectors:
    """The points of users in a registered store; implements `admin.erasure.UserData`."""

    def __init__(self, store: RegisteredStore, open_store: OpenVectorStore) -> None:
        self._store = store
        self._open = open_store

    @property
    def name(self) -> str:
        """See `UserData`."""
        return f"{INDEX}:{self._store.name}"

    async def erase(self, scope: Scope) -> int:
        """See `UserData`."""
        store = self._opened()
        if not await store.exists():
            return 0
        count = await store.count(scope)
        await store.delete_user(scope)
        return count

    async def count(self, scope: Scope) -> int:
        """See `UserData`."""
        store = self._opened()
        return await store.count(scope) if await store.exists() else 0

    def _opened(self) -> VectorStore:
        return self._open(self._store.url, self._store.name, self._store.dimensions)


def _connections(
    stack: AsyncExitStack, settings: Settings, database: Database
) -> VectorConnections:
    connections = VectorConnections(
        database,
        postgres=settings.uses_postgres,
        api_key=settings.vector_store_api_key.get_secret_value(),
    )
    stack.push_async_callback(connections.close)
    return connections


def open_feeder(stack: AsyncExitStack, settings: Settings, database: Database) -> Feeder:
    """Return the feeder of a worker, which leaves the stores in a server's folder to the server."""
    connections = _connections(stack, settings, database)
    feeds = SqlVectorFeeds(database, utc_now)
    return Feeder(feeds, connections, utc_now, lambda store: not _is_embedded(store))


async def open_vectors(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    source: IndexSource,
    embedder: Embedder,
) -> Vectors:
    """Return the vector stores of a server.

    Raises:
        StartError: the settings name a store that this installation cannot open.
    """
    connections = _connections(stack, settings, database)
    feeds = SqlVectorFeeds(database, utc_now)
    vectors = SqlVectorSource(database)
    chosen = settings.vector_store_url
    stages = Timings("stage")

    def make_exact() -> RecallIndex:
        return ExactIndex(source, embedder, budget=settings.index_bytes, stages=stages)

    def make_vector(store: RegisteredStore) -> RecallIndex:
        return VectorIndex(
            source,
            embedder,
            store=connections(store.url, store.name, store.dimensions),
            registered=store,
            state=feeds,
            vectors=vectors,
            budget=settings.index_bytes,
            stages=stages,
        )

    async def ping(store: RegisteredStore) -> bool:
        try:
            await connections(store.url, store.name, store.dimensions).count(_NOBODY)
        except (InvalidArgument, Unavailable):
            return False
        return True

    with_keys = bool(settings.auth)
    reindexing = Reindexing(
        feeds,
        connections,
        model=embedder.model,
        dimensions=embedder.dimensions,
        allowed=frozenset(settings.vector_store_urls.values()) if with_keys else None,
    )
    index = SwitchingIndex(
        feeds,
        feeds,
        source,
        make_exact=make_exact,
        make_vector=make_vector,
        model=embedder.model,
        ping=ping,
    )
    try:
        if chosen not in ("", "exact:"):
            connections(chosen, "recollect_start", embedder.dimensions)
        await index.refresh()
    except (InvalidArgument, Unavailable) as error:
        raise StartError(f"vector store {chosen}: {error.message}") from None

    async def obey() -> None:
        """Move to what the settings name, as soon as that answers."""
        while True:
            try:
                await reindexing.obey(chosen)
            except Unavailable as error:
                log.warning("the vector store of the settings waits", reason=error.message)
                await asyncio.sleep(OBEY_SECONDS)
            else:
                return

    feeder = Feeder(
        feeds, connections, utc_now, lambda store: settings.worker or _is_embedded(store)
    )

    async def places() -> tuple[UserData, ...]:
        return tuple(
            StoredVectors(store, connections)
            for store in await feeds.stores()
            if store.url not in (EXACT_URL, PGVECTOR_URL)
        )

    return Vectors(
        index,
        places,
        reindexing,
        {"index": index.run, "vector-choice": obey, "feeding": feeder.run},
        stages,
    )


def _is_embedded(store: RegisteredStore) -> bool:
    """Whether the store is a folder that only one process may open."""
    return store.url.startswith(("chroma:///", "qdrant:///"))
