"""Every set of stores that tenants may share."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from tests.harness import RunningServer
from tests.postgres_server import PostgresServer
from tests.stores.valkey.setups import start_search
from tests.tenancy.actor import MARKS

from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.model import Grants, KeyRole
from recollect_server.config import Settings
from recollect_server.parts import open_database, utc_now
from recollect_server.stores.sql.keys import SqlApiKeyStore

# Summaries and episodes of what was just said, but no facts that the model knows nothing of.
BUSY = {
    "RECOLLECT_SUMMARY_RECENT": "5",
    "RECOLLECT_EPISODE_IDLE_SECONDS": "2",
    "RECOLLECT_EXTRACT_EVERY": "1000000",
}


@dataclass(frozen=True)
class Deployment:
    """A server's stores.

    Attributes:
        vectors: makes the settings of the vector store from a folder.
        search: answers are in a Valkey with RediSearch.
    """

    name: str
    postgres: bool = False
    vectors: Callable[[Path], dict[str, str]] = lambda folder: {}
    search: bool = False

    @contextmanager
    def run(self, folder: Path, postgres: Callable[[], PostgresServer]) -> Iterator["Shared"]:
        """Yield a server that asks for keys and lets a tenant's users share answers."""
        environment = BUSY | self.vectors(folder)
        url = postgres().create("recollect") if self.postgres else ""
        if url:
            environment["DATABASE_URL"] = url
        with ExitStack() as stack:
            if self.search:
                valkey = start_search()
                stack.callback(valkey.close)
                environment["VALKEY_URL"] = valkey.url("valkey")
            flags = ("--auth", "api-key", "--allow-global-cache", "--log-level", "warning")
            server = stack.enter_context(RunningServer(*flags, environment=environment))
            yield Shared(server, Settings(data_dir=server.data_dir, database_url=SecretStr(url)))


@dataclass(frozen=True)
class Shared:
    """A server that tenants share.

    Attributes:
        settings: where its keys are.
    """

    server: RunningServer
    settings: Settings

    async def tokens(self) -> dict[str, str]:
        """Make a key for each tenant; return what it sends."""
        async with AsyncExitStack() as stack:
            database = await open_database(stack, self.settings)
            keys = ApiKeys(SqlApiKeyStore(database, utc_now), utc_now)
            return {
                tenant: (await keys.create(tenant, name=mark, grants=Grants(KeyRole.ADMIN))).token
                for tenant, mark in MARKS.items()
            }


DEPLOYMENTS = (
    Deployment("sqlite"),
    Deployment("sqlite-search", search=True),
    Deployment("sqlite-chroma", vectors=lambda folder: {"CHROMADB_URL": str(folder / "chroma")}),
    Deployment("sqlite-qdrant", vectors=lambda folder: {"QDRANT_URL": str(folder / "qdrant")}),
    Deployment("postgres", postgres=True),
    Deployment(
        "postgres-pgvector",
        postgres=True,
        vectors=lambda folder: {"RECOLLECT_VECTOR_STORE": "pgvector"},
    ),
)
