"""The SQLite driver: shared commits, limits, outages."""

import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.sql.sqlite import SqliteDatabase, _connect


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
