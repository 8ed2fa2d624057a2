"""Both databases for the store suites."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.postgres_server import PostgresServer
from tests.stores.sql.support import Stores, open_database

from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.migrate import migrate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recollect.db"
    migrate(file)
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest) -> str | Path:
    """Where a migrated database is, as `migrate` takes it."""
    if request.param == "sqlite":
        file: Path = request.getfixturevalue("path")
        return file
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.create("recollect")


@pytest.fixture
async def database(location: str | Path) -> AsyncIterator[Database]:
    opened = open_database(location)
    yield opened
    await opened.close()


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database)


@pytest.fixture
async def other(location: str | Path, stores: Stores) -> AsyncIterator[Stores]:
    """The same database as another server process has it open."""
    opened = open_database(location)
    yield Stores(opened, stores.clock, stores.policy)
    await opened.close()
