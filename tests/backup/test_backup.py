"""The commands of docs/backup.md, run under load; what is restored is what was acknowledged."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.harness import ROOT, RunningServer, clean_environment, eventually
from tests.postgres_server import PostgresServer

from recollect import errors
from recollect_server.stores.sql.backup import BackupError, back_up
from recollect_server.stores.sql.migrate import HEAD, migrate

DOCUMENT = (ROOT / "docs/backup.md").read_text()
BLOCKS = dict(re.findall(r"^```\w+ ([\w-]+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL))
USERS = ("ada", "bob")


def _run(block: str, *before: str, path: str = "", **variables: object) -> str:
    """Run a block of the documentation as it stands there."""
    programs = [str(Path(sys.executable).parent), *filter(None, [path]), os.environ["PATH"]]
    environment = clean_environment(**{k: str(v) for k, v in variables.items()})
    done = subprocess.run(
        [*before, "/bin/bash", "-eu", "-o", "pipefail", "-c", BLOCKS[block]],
        capture_output=True, text=True, check=False, timeout=120, cwd="/",
        env=environment | {"PATH": ":".join(programs)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Load:
    """Appends that go on, and what was acknowledged of them."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._ended = threading.Event()
        self.acknowledged: dict[str, list[str]] = {user: [] for user in USERS}
        self._threads = [threading.Thread(target=self._append, args=(user,)) for user in USERS]

    def _append(self, user: str) -> None:
        with self._server.client(user) as client:
            while not self._ended.is_set():
                text = f"Message {len(self.acknowledged[user])} of {user}."
                client.memory.append_messages("s", [text])
                self.acknowledged[user].append(text)

    def so_far(self) -> dict[str, list[str]]:
        return {user: list(texts) for user, texts in self.acknowledged.items()}

    def __enter__(self) -> "Load":
        for user in USERS:
            with self._server.client(user) as client:
                client.memory.create_session(session_id="s")
                client.memory.remember([f"{user} lives in Lisbon."])
        for thread in self._threads:
            thread.start()
        eventually(lambda: all(len(texts) > 20 for texts in self.acknowledged.values()))
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def _texts(server: RunningServer, user: str) -> list[str]:
    with server.client(user) as client:
        return [m.parts[0].text for m in client.memory.list_messages("s")]


def _compare(before: dict[str, list[str]], after: dict[str, list[str]], flags: list[str]) -> None:
    """Check a restored server: all from before the backup, nothing but what was sent."""
    with RunningServer(*flags) as restored:
        for user in USERS:
            texts = _texts(restored, user)
            assert texts[: len(before[user])] == before[user]
            assert texts == after[user][: len(texts)]
            with restored.client(user) as client:
                (fact,) = client.memory.list_facts()
                assert fact.text == f"{user} lives in Lisbon."
                last = client.memory.append_messages("s", ["One more."])
                assert last.messages[0].sequence == len(texts) + 1
                found = client.memory.recall("Lisbon", min_revision=last.user_revision)
                assert found.hits


def test_sqlite_is_backed_up_under_load_and_restored(tmp_path):
    backups, new = tmp_path / "backups", tmp_path / "new"
    backups.mkdir()
    with RunningServer() as server:
        with Load(server) as load:
            before = load.so_far()
            said = _run("backup-sqlite", DATA_DIR=server.data_dir, BACKUPS=backups)
            during = load.so_far()
        after = load.so_far()
    assert f"schema {HEAD}, checked" in said
    assert all(len(during[user]) > len(before[user]) for user in USERS), "no write went on"
    assert (backups / "recollect.db").stat().st_mode & 0o077 == 0
    _run("restore-sqlite", BACKUPS=backups, NEW_DATA_DIR=new)
    _compare(before, after, ["--database-url", f"sqlite:///{new / 'recollect.db'}"])


def test_a_backup_replaces_nothing_and_leaves_nothing_half_done(tmp_path):
    database, target = tmp_path / "it.db", tmp_path / "copy.db"
    with pytest.raises(BackupError, match="there is no database"):
        back_up(database, target)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(BackupError, match="is no database of Recollect"):
        back_up(database, target)
    database.unlink()
    migrate(database)
    target.write_text("mine")
    with pytest.raises(BackupError, match="exists"):
        back_up(database, target)
    assert target.read_text() == "mine"
    target.unlink()
    assert back_up(database, target).revision == HEAD
    database.write_bytes(os.urandom(65536))
    with pytest.raises(BackupError, match="cannot be copied"):
        back_up(database, tmp_path / "another.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "it.db"]
    with pytest.raises(BackupError, match="cannot be written"):
        back_up(database, target / "below a file")


def test_postgres_is_told_to_use_its_own_tools(postgres):
    flags = ("--database-url", postgres.create())
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "backup", *flags, "x"],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pg_dump" in done.stderr


def test_postgres_is_dumped_under_load_and_restored(postgres, tmp_path):
    url, new = postgres.create("recollect"), postgres.create()
    programs = str(postgres.programs)
    with RunningServer("--database-url", url) as server:
        with Load(server) as load:
            before = load.so_far()
            _run("backup-postgres", path=programs, BACKUPS=tmp_path, DATABASE_URL=url)
        after = load.so_far()
    _run("restore-postgres", path=programs, BACKUPS=tmp_path, NEW_DATABASE_URL=new)
    _compare(before, after, ["--database-url", new])


@contextmanager
def _archiving() -> Iterator[tuple[PostgresServer, Path]]:
    """A PostgreSQL that archives its log, as the documentation says, and the folder of backups."""
    with PostgresServer() as running:
        backups = running.folder / "backups"
        (backups / "wal").mkdir(parents=True)
        running.give(backups, backups / "wal")
        with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
            for line in BLOCKS["archive"].splitlines():
                name, _, value = line.partition(" = ")
                value = value.strip("'").replace("$BACKUPS", str(backups))
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("CREATE DATABASE recollect")
        running.kill()
        running.start()
        migrate(running.url("recollect"))
        yield running, backups


def test_postgres_goes_back_to_a_point_in_time():
    with _archiving() as (running, backups), PostgresServer() as new:
        as_user = running.as_user
        with RunningServer("--database-url", running.url("recollect")) as server:
            with Load(server) as load:
                _run(
                    "backup-base", *as_user, path=str(running.programs),
                    BACKUPS=backups, ADMIN_URL=running.url("postgres"),
                )  # fmt: skip
            with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
                row: Any = connection.execute("SELECT clock_timestamp()::text").fetchone()
                wanted = load.so_far()
                with server.client("ada") as client:
                    client.memory.append_messages("s", ["A mistake."])
                    client.memory.delete_session("s")
                segment: Any = connection.execute(
                    "SELECT pg_walfile_name(pg_switch_wal())"
                ).fetchone()
            eventually((backups / "wal" / segment[0]).exists, 30)
            with server.client("ada") as client, pytest.raises(errors.NotFound):
                client.memory.get_session("s")
        new.kill()
        shutil.rmtree(new.data)
        _run("restore-time", *as_user, BACKUPS=backups, NEW_PGDATA=new.data, TIME=row[0])
        new.start()
        _compare(wanted, wanted, ["--database-url", new.url("recollect")])
