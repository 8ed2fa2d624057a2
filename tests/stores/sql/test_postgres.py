"""The PostgreSQL driver: broken connections, restarts, deadlocks, errors of statements."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from structlog.testing import capture_logs
from tests.harness import eventually
from tests.postgres_server import PostgresServer
from tests.stores.sql.support import ADA, Stores, open_database

from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.model import NewFact, NewSession
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import StatementError
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.postgres import GROUP_LOCK_MS, PostgresDatabase

LARGE = "x" * 1_000_000
ADD = "INSERT INTO users (tenant, user_id, revision) VALUES ('t', :name, 1)"


@pytest.fixture
def location(postgres: PostgresServer) -> str:
    return postgres.create("recollect")


@pytest.fixture
async def database(location: str) -> AsyncIterator[PostgresDatabase]:
    opened = open_database(location)
    yield opened
    await opened.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    with PostgresServer() as running:
        yield running


def _terminate(url: str) -> None:
    """End every backend of a database, as an administrator or a failover does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        def gone() -> bool:
            row = connection.execute(
                "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchone()
            return row == (0,)

        eventually(gone)


async def _users(database) -> list[str]:
    rows = await database.read(lambda tx: tx.execute("SELECT user_id FROM users ORDER BY user_id"))
    return [row[0] for row in rows]


async def test_two_units_that_lock_each_others_users_both_succeed(location, capfd):
    first, second = open_database(location), open_database(location)
    for name in "ab":
        await first.write(lambda tx, name=name: tx.execute(ADD, {"name": name}))
    both_hold_one = threading.Barrier(2)

    def work(order: str):
        runs = []

        def run(tx):
            for name in order:
                tx.execute(
                    "UPDATE users SET revision = revision + 1 WHERE user_id = :name "
                    "RETURNING revision",
                    {"name": name},
                )
                if not runs:
                    runs.append(1)
                    both_hold_one.wait(10)
            return order

        return run

    done = await asyncio.gather(first.write(work("ab")), second.write(work("ba")))
    assert done == ["ab", "ba"]
    rows = await first.read(lambda tx: tx.execute("SELECT revision FROM users"))
    assert rows == [(3,), (3,)]
    await first.close()
    await second.close()
    assert "ignored" not in capfd.readouterr().err


async def test_a_connection_that_ended_while_idle_costs_no_call(stores, location, capfd):
    await stores.session()
    await asyncio.gather(*(stores.append(f"a{n}") for n in range(8)))
    await asyncio.gather(*(stores.texts() for _ in range(8)))
    for _ in range(3):
        _terminate(location)
        await asyncio.gather(*(stores.texts() for _ in range(8)))
        _terminate(location)
        await asyncio.gather(*(stores.sessions.get_session(ADA, "s") for _ in range(8)))
        _terminate(location)
        before = len(await stores.texts())
        await asyncio.gather(*(stores.append(f"b{n}") for n in range(8)))
        assert len(await stores.texts()) == before + 8
    assert "ignored" not in capfd.readouterr().err


async def test_a_unit_whose_connection_ends_while_it_runs_is_run_again_and_counts_once(
    database, location
):
    runs = []

    def work(tx):
        tx.execute(ADD, {"name": f"run {len(runs)}"})
        tx.execute("SELECT 1")
        if not runs:
            _terminate(location)
        runs.append(1)
        return len(runs)

    assert await database.write(work) == 2
    assert await _users(database) == ["run 1"]


async def test_writes_over_connections_that_end_all_the_time_count_once_or_never(stores, location):
    await stores.session()
    ending, acknowledged = threading.Event(), threading.Event()

    def disturb() -> None:
        with psycopg.connect(location, autocommit=True) as connection:
            while not ending.is_set():
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                    "datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() "
                    "LIMIT 1"
                )
                # So that some writes succeed on a slow machine, too.
                acknowledged.wait(0.5)
                acknowledged.clear()

    thread = threading.Thread(target=disturb)
    thread.start()
    told, unknown = [], set()
    try:
        for start in range(0, 600, 6):
            texts = [str(n) for n in range(start, start + 6)]
            results = await asyncio.gather(
                *(stores.append(text) for text in texts), return_exceptions=True
            )
            for text, result in zip(texts, results, strict=True):
                if isinstance(result, BaseException):
                    assert isinstance(result, Unavailable), result
                    unknown.add(text)
                else:
                    told.append((text, result.messages[0].sequence))
                    acknowledged.set()
    finally:
        ending.set()
        thread.join()
    texts = await stores.texts()
    assert len(texts) == len(set(texts))
    assert all(texts[sequence - 1] == text for text, sequence in told)
    assert set(texts) - {text for text, _ in told} <= unknown
    assert len(told) > 50


async def test_a_killed_server_is_unavailable_until_it_is_back(own_server):
    url = own_server.create()
    migrate(url)
    database = PostgresDatabase(url)
    stores = Stores(database)
    await stores.session()
    await stores.append("before")
    own_server.kill()
    for attempt in (stores.append("x"), stores.texts(), stores.sessions.get_session(ADA, "s")):
        with pytest.raises(Unavailable) as caught:
            await attempt
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
        assert caught.value.retry_after
    many = await asyncio.gather(*(stores.append("x") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in many)
    own_server.start()
    await stores.append("after")
    assert await stores.texts() == ["before", "after"]
    await database.close()


async def test_a_database_that_is_not_there_at_first_is_used_once_it_is(postgres):
    url = postgres.create("recollect").replace("?host=", "_later?host=")
    database = PostgresDatabase(url)
    with pytest.raises(Unavailable) as caught:
        await database.read(lambda tx: tx.execute("SELECT 1"))
    assert "_later" not in caught.value.message
    with pytest.raises(Unavailable):
        await database.write(lambda tx: tx.execute("SELECT 1"))
    name = url.rpartition("/")[0] and url.split("@/")[1].partition("?")[0]
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    assert await database.write(lambda tx: tx.execute("SELECT 1")) == [(1,)]
    assert await database.read(lambda tx: tx.execute("SELECT 1")) == [(1,)]
    await database.close()


async def test_a_statement_that_was_not_waited_for_fails_its_unit_before_it_counts(database):
    def work(tx):
        tx.execute(ADD, {"name": "not alone"})
        tx.execute_many("INSERT INTO users (tenant) VALUES (:secret)", [{"secret": "hunter2"}])
        return "returned"

    with pytest.raises(StatementError) as caught:
        await database.write(work)
    assert "hunter2" not in str(caught.value)
    assert await _users(database) == []


async def test_statements_behind_one_that_failed_are_not_taken_for_prepared(database, capfd):
    # The sixth run on a connection prepares a statement, and there are two connections.
    for runs in range(4, 13):

        def change(tx, runs=runs) -> None:
            tx.execute_many(f"UPDATE users SET revision = {runs} WHERE user_key = :n", [{"n": 1}])

        def fail_before(tx, change=change) -> None:
            tx.execute_many("INSERT INTO users (user_key) VALUES (:key)", [{"key": None}])
            change(tx)

        for _ in range(runs):
            await database.write(change)
        with pytest.raises(StatementError) as caught:
            await database.write(fail_before)
        assert "NotNullViolation" in str(caught.value)
        for _ in range(4):
            await database.write(change)


async def test_a_failed_statement_leaves_the_connection_clean(database, capfd):
    for _ in range(5):
        with pytest.raises(StatementError):
            await database.write(
                lambda tx: [tx.execute(ADD, {"name": "x"}), tx.execute("SELECT no_such_column")]
            )
        with pytest.raises(StatementError):
            await database.read(lambda tx: tx.execute("SELECT 1 / 0"))
        with pytest.raises(ValueError, match="mine"):
            await database.write(_raise_after_writing)
        assert await database.write(lambda tx: tx.execute("SELECT 1")) == [(1,)]
        assert await database.read(lambda tx: tx.execute("SELECT 2")) == [(2,)]
    assert await _users(database) == []
    assert "ignored" not in capfd.readouterr().err


def _raise_after_writing(tx):
    tx.execute(ADD, {"name": "x"})
    raise ValueError("mine")


async def test_errors_say_nothing_of_what_was_written_not_even_in_the_log(database, capfd):
    await database.write(lambda tx: tx.execute(ADD, {"name": "hunter2"}))
    with pytest.raises(StatementError) as caught:
        await database.write(lambda tx: tx.execute(ADD, {"name": "hunter2"}))
    assert "UniqueViolation" in str(caught.value)
    said = capfd.readouterr()
    assert "hunter2" not in str(caught.value) + said.out + said.err


async def test_answers_of_many_unread_statements_do_not_come_as_the_answer_of_a_later_one(database):
    def work(tx):
        for number in range(600):
            tx.execute(ADD, {"name": f"{number:03}"})
            if number % 7 == 0:
                time.sleep(0.0005)
        return tx.execute("SELECT COUNT(*) FROM users")

    assert await database.write(work) == [(600,)]


async def test_a_group_of_users_in_opposite_order_waits_for_no_deadlock(location):
    databases = [open_database(location) for _ in range(2)]
    stores = [Stores(database) for database in databases]
    scopes = [Scope("acme", f"u{n:02}") for n in range(24)]
    await asyncio.gather(*(stores[0].session(scope=scope) for scope in scopes))
    started = time.monotonic()
    for _ in range(5):
        await asyncio.gather(
            *(stores[0].append("x", scope=scope) for scope in scopes),
            *(stores[1].append("x", scope=scope) for scope in reversed(scopes)),
        )
    with psycopg.connect(location) as connection:
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row == (0,), f"after {time.monotonic() - started:.1f} s"
    for database in databases:
        await database.close()


async def test_many_writes_of_one_user_share_a_commit_however_long_they_wait_for_their_turn(
    stores, location
):
    await stores.session()
    with psycopg.connect(location) as other_server, psycopg.connect(location) as observer:
        other_server.execute("UPDATE users SET revision = revision WHERE user_id = 'ada'")
        writes = [asyncio.create_task(stores.append(str(n))) for n in range(32)]

        def waited_longer_than_a_group_waits_for_jobs() -> bool:
            longest = observer.execute(
                "SELECT EXTRACT(EPOCH FROM MAX(clock_timestamp() - waitstart)) FROM pg_locks"
            ).fetchone()[0]
            return longest is not None and longest * 1000 > 2 * GROUP_LOCK_MS

        await asyncio.to_thread(eventually, waited_longer_than_a_group_waits_for_jobs)
        other_server.rollback()
        done = await asyncio.gather(*writes)
    texts = await stores.texts()
    assert [texts[each.messages[0].sequence - 1] for each in done] == [str(n) for n in range(32)]
    ((commits,),) = await stores.rows("SELECT COUNT(DISTINCT xmin::text) FROM messages")
    assert commits < 8


async def test_groups_that_mix_appends_with_other_writes_do_not_wait_for_each_other(location):
    databases = [open_database(location) for _ in range(2)]
    stores = [Stores(database) for database in databases]
    scopes = [Scope("acme", f"u{n}") for n in range(8)]
    await asyncio.gather(*(stores[0].session(scope=scope) for scope in scopes))

    async def write(own: Stores, scope: Scope, append: bool) -> None:
        if append:
            await own.append("x", scope=scope)
        else:
            await own.facts.remember(scope, [NewFact("x")], None)

    with capture_logs() as logged:
        for _ in range(10):
            await asyncio.gather(
                *(
                    write(own, scope, append=(number + place) % 2 == 0)
                    for place, own in enumerate(stores)
                    for number, scope in enumerate(scopes)
                )
            )
    assert [entry for entry in logged if entry["event"].startswith("group failed")] == []
    for database in databases:
        await database.close()


async def test_a_statement_larger_than_the_sockets_buffer_is_sent_whole(database):
    def work(tx) -> None:
        tx.execute("UPDATE users SET revision = 1 WHERE revision = -1 RETURNING 1")
        large = [{"text": LARGE}, {"text": LARGE}]
        tx.execute_many("UPDATE users SET user_id = :text WHERE revision = -1", large)

    async with asyncio.timeout(120):
        for _ in range(100):
            await database.write(work)


async def test_nul_in_a_models_text_does_not_stop_the_work(stores):
    created = await stores.sessions.create_session(ADA, NewSession("s", title="a\x00b"), None)
    assert created.title == "a\ufffdb"


async def test_a_closed_database_refuses(stores):
    await stores.session()
    await stores.database.close()
    with pytest.raises(Unavailable):
        await stores.append("x")
    with pytest.raises(Unavailable):
        await stores.texts()


async def test_reads_cannot_write(database):
    with pytest.raises(StatementError):
        await database.read(lambda tx: tx.execute(ADD, {"name": "x"}))
    assert await _users(database) == []
