"""Databases for the store suites. A second driver joins as another parameter of `database`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stores.sql.support import Stores

from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.sqlite import SqliteDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recollect.db"
    migrate(file)
    return file


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    opened = SqliteDatabase(path)
    yield opened
    await opened.close()


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database)
