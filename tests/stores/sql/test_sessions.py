"""Sessions and messages: atomic, dense, idempotent, scoped."""

from datetime import timedelta

import pytest
from tests.stores.sql.support import ADA, message, request

from recollect_server.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Reason,
    RevisionMismatch,
)
from recollect_server.memory.model import (
    NewFact,
    NewMessage,
    NewSession,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.scope import Scope

STRANGERS = [Scope("acme", "bob"), Scope("other", "ada"), Scope("acme", "ADA"), Scope("acme", "")]
ODD_IDS = ["a'; DROP TABLE users;--", "100%_", 'q"uote', "new\nline", "日本語", "a b", "🙂" * 64]


async def test_a_failing_append_writes_none_of_its_messages(stores):
    await stores.session()
    with pytest.raises(RevisionMismatch) as caught:
        await stores.sessions.append_messages(
            ADA, "s", [message("a"), message("b")], request=None, expected_revision=7
        )
    assert (caught.value.expected, caught.value.current) == (7, 1)
    assert await stores.texts() == []
    assert (await stores.sessions.get_session(ADA, "s")).revision == 1
    assert (await stores.source.user_revision(ADA))[0] == 1


async def test_a_request_id_is_for_one_request_for_24_hours(stores):
    await stores.session()
    await stores.append("a", request=request("r"))
    with pytest.raises(FailedPrecondition) as caught:
        await stores.append("b", request=request("r", digest=b"other"))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    await stores.append("b", request=request("r", method="Other"))
    stores.clock.move(hours=23)
    await stores.append("a", request=request("r"))
    assert await stores.texts() == ["a", "b"]
    stores.clock.move(hours=2)
    await stores.append("b", request=request("r", digest=b"other"))
    assert await stores.texts() == ["a", "b", "b"]


async def test_old_requests_are_removed(stores):
    await stores.session()
    for number in range(10):
        await stores.append("x", request=request(f"old-{number}"))
    stores.clock.move(hours=25)
    await stores.append("x", request=request("new"))
    assert await stores.upkeep.run_upkeep() is False
    rows = await stores.database.read(lambda tx: tx.execute("SELECT request_id FROM requests"))
    assert rows == [("new",)]


async def test_messages_keep_every_part_and_character(stores):
    parts = (
        TextPart("NUL \x00, emoji 🙂, 中文, \ud7ff"),
        ThinkingPart("hm", "sig"),
        ToolCallPart("c1", "look", '{"a": 1}'),
        ToolResultPart("c1", "no", is_error=True),
    )
    new = NewMessage(
        Role.TOOL, parts, "Ada\x00", stores.clock() - timedelta(days=1), {"k\x00": "v"}, "ext"
    )
    await stores.session()
    done = await stores.sessions.append_messages(
        ADA, "s", [new], request=None, expected_revision=None
    )
    found = await stores.sessions.find_messages(ADA, [("s", 1)])
    assert found == done.messages
    assert (found[0].parts, found[0].author_name, found[0].time) == (
        parts,
        new.author_name,
        new.time,
    )
    assert (found[0].metadata, found[0].external_id) == ({"k\x00": "v"}, "ext")


@pytest.mark.parametrize("name", ODD_IDS)
async def test_any_id_is_only_a_name(stores, name):
    scope = Scope(name, name)
    await stores.session(name, scope)
    await stores.session("other", scope)
    await stores.append("here", session_id=name, scope=scope, request=request(name))
    assert await stores.texts(name, scope) == ["here"]
    assert await stores.texts("other", scope) == []
    await stores.sessions.delete_session(scope, name)
    assert [s.session_id for s in await _list(stores, scope)] == ["other"]


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_stranger_sees_and_changes_nothing(stores, stranger):
    await stores.session()
    await stores.append("secret")
    sessions = stores.sessions
    for attempt in (
        sessions.get_session(stranger, "s"),
        sessions.clear_session(stranger, "s"),
        sessions.delete_session(stranger, "s"),
        sessions.update_session(stranger, "s", {"title": "x"}, None),
        stores.texts(scope=stranger),
        stores.append("x", scope=stranger),
    ):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.reason is Reason.SESSION_NOT_FOUND
    assert await _list(stores, stranger) == ()
    assert await sessions.find_messages(stranger, [("s", 1)]) == ()
    assert (await stores.source.index_changes(stranger, 0, "m")).upserts == ()
    assert await stores.texts() == ["secret"]


async def test_a_taken_id_is_refused_and_a_repeated_request_is_not(stores):
    new = NewSession("s", title="first")
    first = await stores.sessions.create_session(ADA, new, request("r", "CreateSession"))
    await stores.append("later")
    assert await stores.sessions.create_session(ADA, new, request("r", "CreateSession")) == first
    with pytest.raises(AlreadyExists) as caught:
        await stores.sessions.create_session(ADA, NewSession("s"), None)
    assert caught.value.reason is Reason.SESSION_EXISTS


async def test_lists_go_both_ways_within_their_bounds(stores):
    await stores.session()
    for number in range(1, 8):
        stores.clock.move(seconds=1)
        await stores.append(str(number))
    assert await stores.texts(after=2, before=6) == ["3", "4", "5"]
    assert await stores.texts(before=4, newest_first=True) == ["3", "2", "1"]
    assert await stores.texts(since=stores.clock() - timedelta(seconds=1)) == ["6", "7"]


async def test_sessions_are_paged_by_their_last_change(stores):
    for number in range(5):
        stores.clock.move(seconds=1)
        await stores.session(str(number))
    stores.clock.move(seconds=1)
    await stores.append("x", session_id="1")
    names, after = [], None
    while page := await stores.sessions.list_sessions(ADA, limit=2, after=after):
        names += [s.session_id for s in page]
        after = (page[-1].update_time, page[-1].session_id)
    assert names == ["1", "4", "3", "2", "0"]


async def test_an_update_changes_what_it_names_by_one_revision(stores):
    await stores.session()
    changed = await stores.sessions.update_session(
        ADA, "s", {"title": "t", "metadata": {"a": "b"}, "window_ttl": timedelta(seconds=5)}, 1
    )
    assert (changed.title, changed.metadata, changed.window_size) == ("t", {"a": "b"}, 20)
    assert (changed.window_ttl, changed.revision) == (timedelta(seconds=5), 2)
    with pytest.raises(RevisionMismatch):
        await stores.sessions.update_session(ADA, "s", {"title": "u"}, 1)


async def test_clearing_keeps_the_transcript_and_moves_the_window(stores):
    await stores.session()
    await stores.append("a", "b")
    assert (await stores.sessions.clear_session(ADA, "s")).window_start == 3
    assert await stores.texts() == ["a", "b"]


async def test_deleting_takes_messages_turns_of_the_index_and_orphaned_facts(stores):
    await stores.session()
    await stores.append("a", "b")
    await stores.facts.remember(ADA, [NewFact("given directly", "kept")], None)
    before = (await stores.source.index_changes(ADA, 0, "m")).revision
    await stores.sessions.delete_session(ADA, "s")
    changes = await stores.source.index_changes(ADA, before, "m")
    assert len(changes.deletes) == 2
    assert changes.upserts == ()
    left = await stores.source.index_changes(ADA, 0, "m")
    assert [item.item_id for item in left.upserts] == ["kept"]
    for table in ("messages", "message_vectors", "sessions"):
        rows = await stores.database.read(
            lambda tx, table=table: tx.execute(f"SELECT COUNT(*) FROM {table}")
        )
        assert rows == [(0,)]
    await stores.session()
    assert await stores.texts() == []


async def _list(stores, scope):
    return await stores.sessions.list_sessions(scope, limit=100, after=None)
