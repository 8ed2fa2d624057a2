"""`recollect migrate`, and a server that finds no schema."""

import sqlite3
import subprocess
import sys

import psycopg
import pytest
from tests.harness import RunningServer, clean_environment
from tests.postgres_server import PostgresServer

from recollect_server.stores.sql.migrate import HEAD


def _recollect(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def flags(request, tmp_path) -> tuple[str, str]:
    """Which database to migrate."""
    if request.param == "sqlite":
        return ("--data-dir", str(tmp_path / "data"))
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return ("--database-url", postgres.create())


def test_a_check_exits_with_1_until_the_migration_is_done(flags):
    needed = _recollect("migrate", "--check", *flags)
    assert (needed.returncode, needed.stdout) == (1, "a migration is needed\n"), needed.stderr
    done = _recollect("migrate", *flags)
    assert (done.returncode, done.stdout) == (0, f"migrated to {HEAD}\n"), done.stderr
    again = _recollect("migrate", *flags)
    assert (again.returncode, again.stdout) == (0, f"up to date: {HEAD}\n"), again.stderr
    checked = _recollect("migrate", "--check", *flags)
    assert (checked.returncode, checked.stdout) == (0, f"up to date: {HEAD}\n"), checked.stderr


def test_a_check_changes_nothing(tmp_path):
    data = tmp_path / "data"
    assert _recollect("migrate", "--check", "--data-dir", str(data)).returncode == 1
    assert list(tmp_path.rglob("*.db")) == []


def test_what_cannot_be_migrated_is_said_in_one_line(tmp_path):
    data = tmp_path / "data"
    assert _recollect("migrate", "--data-dir", str(data)).returncode == 0
    (file,) = data.glob("*.db")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for refused in (
        _recollect("migrate", "--data-dir", str(data)),
        _recollect("migrate", "--check", "--data-dir", str(data)),
        _recollect("migrate", "--database-url", "postgresql://postgres@127.0.0.1:1/none"),
    ):
        assert refused.returncode == 1
        assert refused.stderr.startswith("recollect: ")
        assert "Traceback" not in refused.stderr


def test_a_server_starts_on_postgresql_once_its_schema_is_there(postgres, tmp_path):
    url = postgres.create()
    refused = _recollect(
        "serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path), "--database-url", url
    )
    assert refused.returncode == 1
    assert "recollect migrate" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert _recollect("migrate", "--database-url", url).returncode == 0
    with RunningServer("--database-url", url) as server, server.client("ada") as client:
        session = client.memory.create_session()
        client.memory.remember(["Prefers window seats"])
        assert client.memory.recall("window seats").hits
        _restart_backends(postgres, url)
        assert client.memory.get_session(session.session_id).session_id == session.session_id
        client.memory.remember(["Prefers aisle seats"])
        assert "ignored" not in server.log
        assert "Traceback" not in server.log


def _restart_backends(postgres: PostgresServer, url: str) -> None:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        for pid in postgres.backends(url):
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
