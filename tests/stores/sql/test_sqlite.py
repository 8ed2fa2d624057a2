"""The SQLite driver: shared commits, limits, outages."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stores.sql.support import Stores

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.sql import sqlite
from recollect_server.stores.sql.sqlite import SqliteDatabase, _connect


@pytest.fixture
def location(path: Path) -> Path:
    return path


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = SqliteDatabase(path)
    yield opened
    await opened.close()


async def test_a_full_disk_fails_the_write_and_the_next_one_works_when_there_is_room(stores):
    await stores.session()
    pages = await stores.database.write(lambda tx: tx.execute("PRAGMA max_page_count = 1")[0][0])
    with pytest.raises(Unavailable) as caught:
        await stores.append("x" * 100_000)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert "full" not in caught.value.message
    await stores.database.write(lambda tx: tx.execute(f"PRAGMA max_page_count = {pages * 1000}"))
    await stores.append("y")
    assert await stores.texts() == ["y"]


async def test_a_closed_database_refuses(stores):
    await stores.session()
    await stores.database.close()
    with pytest.raises(Unavailable):
        await stores.append("x")
    with pytest.raises(Unavailable):
        await stores.texts()


async def test_reads_cannot_write(database):
    with pytest.raises(Unavailable):
        await database.read(lambda tx: tx.execute("DELETE FROM users"))


async def test_the_file_is_compacted_at_the_first_try_while_others_write_and_read(stores, other):
    await stores.session()
    for _ in range(40):
        await asyncio.gather(*(stores.append("x" * 2000) for _ in range(50)))
    stop = asyncio.Event()

    async def write(own: Stores) -> None:
        while not stop.is_set():
            await own.append("y")

    async def read(own: Stores) -> None:
        while not stop.is_set():
            await own.texts()

    busy = [asyncio.create_task(write(own)) for own in (stores, other) for _ in range(2)]
    for _ in range(12):
        await stores.database.compact([])
    busy += [asyncio.create_task(read(own)) for own in (stores, other)]
    await asyncio.gather(*(own.database.compact([]) for own in (stores, other, stores, other)))
    stop.set()
    await asyncio.gather(*busy)


async def test_those_who_ask_while_the_file_is_compacted_share_the_next_time(database, monkeypatch):
    done = []
    vacuum = database._vacuum
    monkeypatch.setattr(database, "_vacuum", lambda: done.append(vacuum()))
    await asyncio.gather(*(database.compact([]) for _ in range(10)))
    assert len(done) == 2
    await database.compact([])
    assert len(done) == 3


async def test_a_log_that_somebody_reads_is_not_emptied_and_the_file_not_written(
    database, path, monkeypatch
):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.3)
    with contextlib.closing(_connect(path, "FULL")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM users").fetchall()
        await database.write(lambda tx: tx.execute("DELETE FROM jobs"))
        await database.write(lambda tx: tx.execute("CREATE TABLE later (text TEXT)"))
        with pytest.raises(Unavailable) as caught:
            await database.compact([])
        assert caught.value.retry_after
        reader.execute("ROLLBACK")
        await database.compact([])
    assert path.with_name(path.name + "-wal").stat().st_size == 0


def test_connections_that_open_a_new_file_at_once_wait_for_each_other(tmp_path):
    errors = []

    def use(path, barrier):
        barrier.wait()
        try:
            connection = _connect(path, "FULL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            connection.close()
        except sqlite3.Error as error:
            errors.append(error)

    for number in range(100):
        path = tmp_path / str(number)
        with contextlib.closing(sqlite3.connect(path)) as first:
            first.execute("CREATE TABLE t (a)")
        barrier = threading.Barrier(3)
        threads = [threading.Thread(target=use, args=(path, barrier)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
