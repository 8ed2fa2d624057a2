"""A user who is erased is gone at once, with every row, and nothing brings one back."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta

import numpy as np
import pytest
from tests.stores.sql.support import ADA, MODEL, request

from recollect_server.admin.erasure import SQL, pseudonym
from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.model import Grants, KeyRole
from recollect_server.errors import Aborted, NotFound, OutOfRange, RecollectError
from recollect_server.memory.audit import Caller
from recollect_server.memory.fact_plan import Plan, Step, found
from recollect_server.memory.model import (
    ExtractedFact,
    NewEpisode,
    NewFact,
    NewSession,
    Summary,
)
from recollect_server.memory.watch import Position
from recollect_server.scope import Scope
from recollect_server.stores.sql import migrate as schema
from recollect_server.stores.sql.audit import SqlAuditLog
from recollect_server.stores.sql.erasing import BY_USER_ID, BY_USER_KEY, SPECIAL, SqlErasures
from recollect_server.stores.sql.sqlite import SqliteDatabase

BOB = Scope("acme", "bob")
SAME_ID = Scope("other tenant", "ada")
CALLER = Caller("key", "recollect.v1.AdminService/EraseUser", "call")


@pytest.fixture
def erasures(stores) -> SqlErasures:
    return SqlErasures(stores.database, stores.clock)


async def _begin(erasures, scope=ADA, request_id=""):
    return await erasures.begin(scope, request_id, CALLER)


async def _erase(erasures, scope=ADA) -> None:
    """Do all that SQL has to do, as `Erasing` does it."""
    erasure = await _begin(erasures, scope)
    while (await erasures.remove_rows(erasure)).more:
        pass
    assert not await erasures.being_fed(erasure)
    assert set((await erasures.count_rows(erasure)).values()) == {0}
    await erasures.conclude(erasure)
    await erasures.clean_files()
    await erasures.complete(erasure.erasure_id)


async def _columns(stores) -> dict[str, set[str]]:
    """Return the names of every table's columns."""
    if stores.database.__class__.__name__ == "SqliteDatabase":
        rows = await stores.rows(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c "
            "WHERE m.type = 'table'"
        )
    else:
        rows = await stores.rows(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public'"
        )
    found: dict[str, set[str]] = {}
    for table, column in rows:
        found.setdefault(table, set()).add(column)
    return found


async def test_every_table_that_names_a_user_is_erased(stores):
    columns = await _columns(stores)
    by_key = {table for table, names in columns.items() if "user_key" in names}
    by_id = {table for table, names in columns.items() if "user_id" in names}
    of_sessions = {table for table, names in columns.items() if "session_key" in names}
    assert by_key - SPECIAL == set(BY_USER_KEY)
    assert by_id - SPECIAL == set(BY_USER_ID)
    assert of_sessions <= set(BY_USER_KEY), "a row of a session must name the user, too"
    for table, key in (BY_USER_KEY | BY_USER_ID).items():
        assert set(key.split(", ")) <= columns[table]


async def _fill(stores, scope) -> None:
    await stores.session(scope=scope)
    await stores.append("hello", "there", scope=scope, request=request("r"))
    await stores.facts.remember(scope, [NewFact("likes tea", "f")], None)
    await stores.facts.update_fact(scope, "f", {"text": "likes coffee"})
    episode = NewEpisode("t", "s", "m", 1, 2, stores.clock(), stores.clock() + timedelta(1))
    await stores.episodes.save_episode(scope, "s", episode)
    while task := await stores.queue.lease_embedding(MODEL, 100):
        vectors = np.eye(len(task.items), 4, dtype=np.float32)
        await stores.queue.complete_embedding(task, MODEL, vectors)
    await stores.append("not embedded yet", scope=scope)
    await SqlAuditLog(stores.database, stores.clock).record(scope, CALLER, "session_id=s", "OK")


async def _all(stores, scope) -> list[object]:
    return [
        await stores.texts(scope=scope),
        await stores.facts.list_facts(scope, limit=9, after=None, valid_only=False),
        await stores.episodes.list_episodes(scope, limit=9, after=None),
        [item.item_id for item in (await stores.source.index_changes(scope, 0, MODEL)).upserts],
    ]


async def test_one_user_goes_and_others_of_the_same_names_stay(stores, erasures):
    for scope in (ADA, BOB, SAME_ID):
        await _fill(stores, scope)
    kept = [await _all(stores, scope) for scope in (BOB, SAME_ID)]
    await _erase(erasures)
    with pytest.raises(NotFound):
        await stores.texts()
    assert await stores.source.user_revision(ADA) == (0, 0)
    assert [await _all(stores, scope) for scope in (BOB, SAME_ID)] == kept


async def test_it_is_hidden_at_once_and_cannot_be_made_anew_meanwhile(stores, erasures):
    await _fill(stores, ADA)
    erasure = await _begin(erasures)
    assert (await _begin(erasures)).erasure_id == erasure.erasure_id
    with pytest.raises(NotFound):
        await stores.texts()
    for write in (
        stores.session("new"),
        stores.facts.remember(ADA, [NewFact("x", "g")], None),
        stores.append("x"),
    ):
        with pytest.raises(Aborted):
            await write
    assert await stores.jobs.list_jobs("acme", state=None, limit=9, after=None) == ()


async def test_a_session_made_meanwhile_has_no_key_of_one_that_went(stores, erasures):
    await stores.session("before", BOB)
    await stores.session("s", ADA)
    await stores.append("secret", "of ada", session_id="s")
    await _begin(erasures)
    await stores.session("made since", BOB)
    assert await stores.texts("made since", BOB) == []
    await stores.append("of bob", session_id="made since", scope=BOB)
    assert await stores.texts("made since", BOB) == ["of bob"]
    await _erase(erasures)
    assert await stores.texts("made since", BOB) == ["of bob"]


async def test_work_under_way_stores_nothing(stores, erasures):
    await _fill(stores, ADA)
    session = await stores.sessions.get_session(ADA, "s")
    task = await stores.queue.lease_embedding(MODEL, 100)
    stores.clock.move(seconds=30)
    now = stores.clock()
    plan = Plan((Step(found(ExtractedFact("secret", 1.0, (1,), now), "s", "m", now)),), as_of=0)
    erasure = await _begin(erasures)

    async def late() -> None:
        await stores.queue.complete_embedding(task, MODEL, np.eye(1, 4, dtype=np.float32))
        for work in (
            stores.sessions.save_summary(
                ADA, "s", Summary("secret", 1, now, "m"), 0, session.create_time
            ),
            stores.facts.save_extracted(
                ADA, "s", plan, through=1, replaces_through=0, session_time=session.create_time
            ),
            stores.episodes.save_episode(
                ADA, "s", NewEpisode("t", "s", "m", 3, 3, now, now), session.create_time
            ),
        ):
            with pytest.raises((NotFound, Aborted)):
                await work

    await late()
    while (await erasures.remove_rows(erasure)).more:
        pass
    await late()
    assert set((await erasures.count_rows(erasure)).values()) == {0}
    await erasures.conclude(erasure)
    await erasures.complete(erasure.erasure_id)
    await late()
    assert await stores.source.user_revision(ADA) == (0, 0)


async def test_revisions_and_keys_go_on_where_they_ended(stores, erasures):
    await _fill(stores, ADA)
    [(old_key,)] = await stores.rows("SELECT user_key FROM users WHERE user_id = 'ada'")
    revisions = []
    await _erase(erasures)
    for _ in range(3):
        await stores.session()
        revisions.append((await stores.append("x")).user_revision)
        await _erase(erasures)
        assert (await stores.changes.latest_position(ADA)).revision > revisions[-1]
    assert revisions == sorted(set(revisions))
    await stores.session()
    [(key,)] = await stores.rows("SELECT user_key FROM users WHERE user_id = 'ada'")
    assert key > old_key


async def test_a_watcher_of_before_is_told_in_every_later_life(stores, erasures):
    await _fill(stores, ADA)
    before = await stores.changes.latest_position(ADA)

    async def look(position: Position):
        return await stores.changes.changes_after(ADA, position, session_id="", limit=9)

    await _erase(erasures)
    with pytest.raises(OutOfRange, match="erased"):
        await look(before)
    now = await stores.changes.latest_position(ADA)
    assert await look(now) == ((), now)
    await stores.session()
    with pytest.raises(OutOfRange, match="erased"):
        await look(before)
    changes, _ = await look(now)
    assert len(changes) == 1


async def test_a_repeat_of_a_request_is_another_erasure_only_with_another_id(stores, erasures):
    await _fill(stores, ADA)
    first = await _begin(erasures, request_id="one")
    await erasures.conclude(first)
    await erasures.complete(first.erasure_id)
    again = await _begin(erasures, request_id="one")
    assert (again.erasure_id, again.complete) == (first.erasure_id, True)
    assert (await _begin(erasures, BOB, "one")).erasure_id != first.erasure_id
    assert (await _begin(erasures, request_id="two")).erasure_id != first.erasure_id


async def test_another_process_goes_on_where_one_died(stores, erasures, other):
    await stores.session()
    for _ in range(3):
        await stores.append(*(f"message {n}" for n in range(700)))
    erasure = await _begin(erasures)
    assert await erasures.lease(erasure.erasure_id, 60)
    assert (await erasures.remove_rows(erasure)).more
    others = SqlErasures(other.database, other.clock)
    assert [each.erasure_id for each in await others.open_erasures()] == [erasure.erasure_id]
    assert not await others.lease(erasure.erasure_id, 60)
    stores.clock.move(seconds=61)
    assert await others.lease(erasure.erasure_id, 60)
    while (await others.remove_rows(erasure)).more:
        pass
    receipt = (await others.get(erasure.erasure_id)).stores[SQL]
    # Messages and their places in the queue, the session, and jobs to embed, summarise and extract.
    assert receipt.removed >= 2100 + 2100 + 1 + 3
    assert await others.open_erasures() != ()


async def test_audit_events_keep_the_fact_under_a_pseudonym(stores, erasures):
    await _fill(stores, ADA)
    await _fill(stores, BOB)
    await _erase(erasures)
    log = SqlAuditLog(stores.database, stores.clock)
    bounds = {"start": None, "end": None, "limit": 9, "after": None}
    events = await log.list_events("acme", user_id="ada", **bounds)
    assert [event.caller.method for event in events] == [CALLER.method, CALLER.method]
    assert {event.user_id for event in events} == {events[0].user_id}
    assert events[0].user_id.startswith(pseudonym(b""))
    assert "ada" not in str(events)
    assert events[1].resource == ""
    assert len(await log.list_events("acme", user_id="bob", **bounds)) == 1


async def test_the_digest_of_an_erased_user_needs_the_databases_own_key(stores, erasures, other):
    first = await _begin(erasures)
    [(key,)] = await stores.rows("SELECT value FROM erasure_key")
    assert len(bytes(key)) == 32
    assert (await _begin(SqlErasures(other.database, other.clock))).erased == first.erased
    assert (await _begin(erasures, SAME_ID)).erased != first.erased


async def test_nothing_is_left_in_the_bytes_of_a_file(path, stores, erasures):
    if not path.exists() or stores.database.__class__.__name__ != "SqliteDatabase":
        pytest.skip("PostgreSQL's files are its own")
    for scope in (ADA, BOB):
        await stores.session(scope=scope)
    for number in range(400):
        await stores.append(f"markera {number} " * (1 + number % 90))
        await stores.append(f"markerb {number} " * (1 + number % 70), scope=BOB)
        if number % 3 == 0:
            await stores.facts.remember(
                ADA, [NewFact(f"markera fact {number}", f"f{number}")], None
            )
            await stores.facts.update_fact(ADA, f"f{number}", {"text": f"markera {number} " * 99})
    await _erase(erasures)
    files = [path, path.with_name(path.name + "-wal")]
    data = b"".join(file.read_bytes() for file in files if file.exists())
    assert data.count(b"markera") == 0
    assert data.count(b"markerb") > 400


async def test_what_was_deleted_is_not_in_the_file(tmp_path):
    file = tmp_path / "some.db"
    schema.migrate(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite have it on
        for number in range(200):
            connection.execute(
                "INSERT INTO vector_choice VALUES (?, ?)", (number, f"remnant {number} " * 50)
            )
        connection.execute("DELETE FROM vector_choice WHERE number > 0")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"remnant 150" in file.read_bytes()
    database = SqliteDatabase(file)
    await database.compact(["vector_choice"])
    assert b"remnant 150" not in file.read_bytes()
    assert b"remnant 0" in file.read_bytes()
    await database.close()


async def test_messages_under_way_from_many_writers_are_before_or_refused(stores, erasures, other):
    await stores.session()
    stop = asyncio.Event()

    async def write(store) -> None:
        while not stop.is_set():
            try:
                await store.sessions.create_session(ADA, NewSession("t"), None)
                await store.append("x", session_id="t")
                await store.facts.remember(ADA, [NewFact("x")], None)
            except RecollectError:
                await asyncio.sleep(0)

    writers = [asyncio.create_task(write(store)) for store in (stores, other) for _ in range(4)]
    await asyncio.sleep(0.1)
    erasure = await _begin(erasures)
    while (await erasures.remove_rows(erasure)).more:
        pass
    for _ in range(20):
        assert set((await erasures.count_rows(erasure)).values()) == {0}
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*writers)


async def test_a_repeated_call_does_not_bring_back_a_key_of_an_erased_user(stores, erasures):
    keys = ApiKeys(stores.keys, stores.clock)
    options = {"name": "k", "user_id": ADA.user_id, "grants": Grants(KeyRole.WRITER)}

    def create():
        return keys.create(ADA.tenant, **options, request=request("r", "CreateApiKey"))

    await create()
    await _erase(erasures)
    with pytest.raises(NotFound):
        await create()
    assert not await keys.list(ADA.tenant, limit=10, after=None)
