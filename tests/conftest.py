"""Fixtures that several suites share."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from tests.harness import RunningServer
from tests.postgres_server import PostgresServer

from recollect_server.stores.sql.migrate import migrate


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One server for all tests that use users of their own and break nothing.

    On SQLite, or on PostgreSQL if a test asks for `postgres`.
    """
    flags: list[str] = []
    if getattr(request, "param", "sqlite") == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        flags = ["--database-url", postgres.create("recollect")]
    with RunningServer(*flags) as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL with a database `recollect` that has the schema, to copy from."""
    with PostgresServer() as running:
        with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE recollect")
        migrate(running.url("recollect"))
        yield running


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return what shows a line at once."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    return show
