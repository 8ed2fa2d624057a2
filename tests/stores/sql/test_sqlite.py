"""The SQLite driver: shared commits, durability, several processes."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stores.sql.support import ADA, Stores, request

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.sql.migrate import HEAD, SchemaError, migrate
from recollect_server.stores.sql.sqlite import SqliteDatabase

WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.model import NewMessage, Role, TextPart
from recollect_server.scope import Scope
from recollect_server.stores.sql.sessions import SqlSessionStore
from recollect_server.stores.sql.sqlite import SqliteDatabase

async def main(path, name, count):
    database = SqliteDatabase(Path(path))
    sessions = SqlSessionStore(database, lambda: datetime.now(UTC), DuePolicy())
    async def one(number):
        text = f"{name}-{number}"
        await sessions.append_messages(
            Scope("acme", "ada"), "s", [NewMessage(Role.USER, (TextPart(text),))],
            request=None, expected_revision=None)
        print(text, flush=True)
    for start in range(0, count, 8):
        await asyncio.gather(*(one(n) for n in range(start, start + 8)))
    await database.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = SqliteDatabase(path)
    yield opened
    await opened.close()


def _writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_a_failing_unit_does_not_hurt_its_group(database):
    def fail(tx):
        tx.execute("INSERT INTO users (tenant, user_id, revision) VALUES ('t', 'bad', 1)")
        raise ValueError("only this one")

    def add(name):
        return lambda tx: tx.execute(
            "INSERT INTO users (tenant, user_id, revision) VALUES ('t', :name, 1) "
            "RETURNING user_id",
            {"name": name},
        )

    results = await asyncio.gather(
        database.write(add("a")),
        database.write(fail),
        database.write(add("b")),
        return_exceptions=True,
    )
    assert (results[0], results[2]) == ([("a",)], [("b",)])
    assert isinstance(results[1], ValueError)
    rows = await database.read(lambda tx: tx.execute("SELECT user_id FROM users ORDER BY user_id"))
    assert rows == [("a",), ("b",)]


async def test_a_caller_that_gives_up_does_not_hurt_others(stores):
    await stores.session()
    calls = [asyncio.create_task(stores.append(str(n))) for n in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    acknowledged = {r.messages[0].text for r in done if not isinstance(r, BaseException)}
    assert acknowledged >= {str(n) for n in range(1, 20, 2)}
    assert acknowledged <= set(await stores.texts())


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


async def test_what_a_killed_process_acknowledged_is_there_once_and_in_order(path):
    database = SqliteDatabase(path)
    stores = Stores(database)
    await stores.session()
    process = _writer(path, "w", 100_000)
    acknowledged = [process.stdout.readline().strip() for _ in range(100)]
    process.kill()
    acknowledged += process.stdout.read().split()[:-1]
    process.wait()
    process.stdout.close()
    texts = await stores.texts()
    assert set(acknowledged) <= set(texts)
    assert len(set(texts)) == len(texts)
    await database.close()


async def test_two_processes_share_a_file_and_lose_nothing(path):
    database = SqliteDatabase(path)
    stores = Stores(database)
    await stores.session()
    writers = [_writer(path, name, 200) for name in "ab"]
    await stores.append("mine", request=request("r"))
    for writer in writers:
        assert await asyncio.to_thread(writer.wait) == 0
        writer.stdout.close()
    found = await stores.sessions.list_messages(
        ADA, "s", limit=1000, after=None, before=None, since=None, newest_first=False
    )
    assert [m.sequence for m in found] == list(range(1, 402))
    assert {m.text for m in found} == {f"{w}-{n}" for w in "ab" for n in range(200)} | {"mine"}
    await database.close()


def test_processes_that_migrate_at_once_make_one_schema(tmp_path):
    code = (
        "import sys; from pathlib import Path; "
        "from recollect_server.stores.sql.migrate import migrate; migrate(Path(sys.argv[1]))"
    )
    file = tmp_path / "new" / "recollect.db"
    started = [subprocess.Popen([sys.executable, "-c", code, str(file)]) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert migrate(file) is False


def test_a_newer_schema_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(SchemaError, match=f"9999.*{HEAD}"):
        migrate(path)


def test_a_current_schema_costs_no_import_of_alembic(path):
    code = (
        "import sys; from pathlib import Path; "
        "from recollect_server.stores.sql.migrate import migrate; "
        "assert migrate(Path(sys.argv[1])) is False; "
        "assert 'alembic' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
