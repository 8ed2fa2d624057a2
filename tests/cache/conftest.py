"""A cache on a real Valkey, with a search module and without, SQLite and the real models."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.cache.support import User
from tests.harness import unique
from tests.stores.valkey.setups import AnyServer, start_search, start_valkey

from recollect_server.answers import Answers, open_answers
from recollect_server.cache.model import CacheScope
from recollect_server.config import Settings
from recollect_server.models.minilm import MiniLmEmbedder
from recollect_server.models.offline import OfflineModel
from recollect_server.parts import utc_now
from recollect_server.scope import Scope
from recollect_server.stores.sql.facts import SqlFactStore
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.sqlite import SqliteDatabase
from recollect_server.stores.valkey.connect import connect

PATIENCE = 20.0
"""Seconds, far more than by default, because the machine may be busy."""

STARTS = {"mirror": start_valkey, "search": start_search}


@pytest.fixture(scope="session")
def valkeys() -> Iterator[dict[str, AnyServer]]:
    servers: dict[str, AnyServer] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture(params=STARTS)
def valkey(request: pytest.FixtureRequest, valkeys: dict[str, AnyServer]) -> AnyServer:
    """A server that no test may harm."""
    if request.param not in valkeys:
        valkeys[request.param] = STARTS[request.param]()
    return valkeys[request.param]


@pytest.fixture(scope="session")
def shared_embedder() -> Iterator[MiniLmEmbedder]:
    embedder = MiniLmEmbedder(threads=1)
    yield embedder
    asyncio.run(embedder.close())


OpenCache = Callable[..., Awaitable[Answers]]


@pytest.fixture
async def open_cache(
    tmp_path: Path, valkey: AnyServer, shared_embedder: MiniLmEmbedder
) -> AsyncIterator[OpenCache]:
    """Open the cache on one database and one Valkey, as a process of its own would."""
    file = tmp_path / "recollect.db"
    migrate(file)
    async with AsyncExitStack() as stack:

        async def make(url: str = "", embedder: MiniLmEmbedder | None = None) -> Answers:
            database = SqliteDatabase(file)
            stack.push_async_callback(database.close)
            client = connect(url or valkey.url("valkey"), command_timeout=PATIENCE)
            stack.push_async_callback(client.close)
            settings = Settings(allow_global_cache=True)
            facts = SqlFactStore(database, utc_now)
            return await open_answers(
                stack,
                settings,
                client,
                client,
                database,
                embedder or shared_embedder,
                facts,
                OfflineModel(),
            )

        yield make


@pytest.fixture
async def answers(open_cache: OpenCache) -> Answers:
    return await open_cache()


@pytest.fixture
def tenant() -> str:
    return unique("tenant")


@pytest.fixture
def ada(answers: Answers, tenant: str) -> User:
    return User(answers, Scope(tenant, "ada"))


@pytest.fixture
def everyone(answers: Answers, tenant: str) -> User:
    return User(answers, Scope(tenant, "ada"), cache_scope=CacheScope.GLOBAL)
