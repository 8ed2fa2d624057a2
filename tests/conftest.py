"""Fixtures that several suites share."""

from collections.abc import Iterator

import psycopg
import pytest
from tests.harness import RunningServer
from tests.postgres_server import PostgresServer

from recollect_server.stores.sql.migrate import migrate


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One server for all tests that use users of their own and break nothing."""
    with RunningServer() as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL with a database `recollect` that has the schema, to copy from."""
    with PostgresServer() as running:
        with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE recollect")
        migrate(running.url("recollect"))
        yield running
