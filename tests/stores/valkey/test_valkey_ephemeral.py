"""Ephemeral sessions as their port promises them, on real servers by every library."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.stores.valkey.setups import AnyServer
from tests.stores.valkey.valkey_server import eventually

from recollect_server.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Reason,
    RevisionMismatch,
)
from recollect_server.memory.model import (
    Appended,
    Message,
    NewMessage,
    NewSession,
    Retention,
    Role,
    Session,
    TextPart,
)
from recollect_server.memory.sessions import EphemeralStore
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.ephemeral import MOST_MESSAGES, ValkeySessions

ID = "s {x}\r\n'\"\0 ü"
HOUR = timedelta(hours=1)


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def store(client: Client) -> EphemeralStore:
    return ValkeySessions(client, _now)


def _new(session_id: str = ID, **more: object) -> NewSession:
    made = NewSession(
        session_id=session_id,
        title="naïve \0",
        retention=Retention.EPHEMERAL,
        metadata={"ключ": "\0"},
        window_size=20,
        window_ttl=HOUR,
        idle_ttl=timedelta(),
        expire_time=None,
    )
    return replace(made, **more)  # type: ignore[arg-type]  # each test names real fields


def _said(text: str) -> NewMessage:
    return NewMessage(
        role=Role.USER,
        parts=(TextPart(text),),
        author_name="Ada",
        time=None,
        metadata={"a": "b"},
        external_id="x",
    )


def _request(method: str = "AppendMessages", digest: bytes = b"\x01\x02") -> RequestKey:
    return RequestKey(method, str(uuid4()), digest)


async def _append(
    store: EphemeralStore,
    scope: Scope,
    *texts: str,
    request: RequestKey | None = None,
    expected: int | None = None,
) -> Appended:
    return await store.append_messages(
        scope,
        ID,
        [_said(text) for text in texts],
        request=request,
        expected_revision=expected,
    )


async def _listed(
    store: EphemeralStore, scope: Scope, limit: int = 5000, **more: object
) -> tuple[Message, ...]:
    query: dict[str, object] = {
        "after": None,
        "before": None,
        "since": None,
        "newest_first": False,
        **more,
    }
    return await store.list_messages(scope, ID, limit=limit, **query)  # type: ignore[arg-type]  # as above


async def test_a_created_session_comes_back_equal(store: EphemeralStore, scope: Scope) -> None:
    new = _new(idle_ttl=timedelta(minutes=5), expire_time=_now().replace(microsecond=7) + HOUR)
    created = await store.create_session(scope, new, None)
    assert await store.get_session(scope, ID) == created
    assert (created.title, created.metadata, created.idle_ttl, created.expire_time) == (
        new.title,
        new.metadata,
        new.idle_ttl,
        new.expire_time,
    )
    assert (created.revision, created.last_sequence, created.message_count) == (1, 0, 0)
    assert (created.retention, created.window_start) == (Retention.EPHEMERAL, 1)
    assert created.create_time == created.update_time


async def test_a_session_without_an_idle_ttl_gets_an_hour(
    store: EphemeralStore, scope: Scope
) -> None:
    assert (await store.create_session(scope, _new(), None)).idle_ttl == HOUR
    updated = await store.update_session(scope, ID, {"idle_ttl": timedelta()}, None)
    assert updated.idle_ttl == HOUR


async def test_a_taken_id_is_refused_and_a_repeated_request_is_not(
    store: EphemeralStore, scope: Scope
) -> None:
    request = _request("CreateSession")
    created = await store.create_session(scope, _new(), request)
    assert await store.create_session(scope, _new(), request) == created
    for other in (None, _request("CreateSession")):
        with pytest.raises(AlreadyExists):
            await store.create_session(scope, _new(), other)
    with pytest.raises(FailedPrecondition) as caught:
        await store.create_session(scope, _new(title="x"), replace(request, digest=b"\x09"))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED


async def test_messages_come_back_as_they_were_said_in_both_directions(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(), None)
    first = await _append(store, scope, "a", "b \0")
    second = await _append(store, scope, "c", "d")
    stored = first.messages + second.messages
    assert [m.sequence for m in stored] == [1, 2, 3, 4]
    assert (first.session_revision, second.session_revision) == (2, 3)
    assert await _listed(store, scope) == stored
    assert await _listed(store, scope, newest_first=True) == stored[::-1]
    assert await _listed(store, scope, 2, after=1) == stored[1:3]
    assert await _listed(store, scope, 2, before=4, newest_first=True) == stored[2:0:-1]
    assert await _listed(store, scope, since=_now() + HOUR) == ()
    session = await store.get_session(scope, ID)
    assert (session.last_sequence, session.message_count, session.revision) == (4, 4, 3)
    assert {first.session_time, second.session_time} == {session.create_time}


async def test_64_concurrent_writers_leave_no_gap_and_step_the_revision_by_one(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(), None)
    writes = (_append(store, scope, *[f"{n}"] * (1 + n % 3)) for n in range(64))
    done = await asyncio.gather(*writes)
    assert sorted(one.session_revision for one in done) == list(range(2, 66))
    listed = await _listed(store, scope)
    assert [m.sequence for m in listed] == list(range(1, len(listed) + 1))
    by_sequence = {m.sequence: m for m in listed}
    for one in done:
        assert tuple(by_sequence[m.sequence] for m in one.messages) == one.messages
    assert len(listed) == sum(len(one.messages) for one in done)


async def test_an_expected_revision_is_checked(store: EphemeralStore, scope: Scope) -> None:
    await store.create_session(scope, _new(), None)
    await _append(store, scope, "a", expected=1)
    with pytest.raises(RevisionMismatch) as caught:
        await _append(store, scope, "b", expected=1)
    assert (caught.value.expected, caught.value.current) == (1, 2)
    with pytest.raises(RevisionMismatch):
        await store.update_session(scope, ID, {"title": "x"}, 1)
    assert (await store.update_session(scope, ID, {"title": "x"}, 2)).revision == 3
    assert len(await _listed(store, scope)) == 1


async def test_of_concurrent_appends_at_one_revision_one_is_done(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(), None)
    writes = (_append(store, scope, str(n), expected=1) for n in range(16))
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(one, Appended) for one in done) == 1
    assert sum(isinstance(one, RevisionMismatch) for one in done) == 15


async def test_a_repeated_request_is_done_once_and_another_under_its_id_is_refused(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(), None)
    request = _request()
    first = await _append(store, scope, "a", "b", request=request, expected=1)
    await _append(store, scope, "c")
    assert await _append(store, scope, "a", "b", request=request, expected=1) == first
    with pytest.raises(FailedPrecondition) as caught:
        await _append(store, scope, "z", request=replace(request, digest=b"\x09"))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    assert [m.text for m in await _listed(store, scope)] == ["a", "b", "c"]


@pytest.mark.parametrize("write", ["update", "clear", "delete"])
async def test_a_repeated_change_is_made_once_and_another_under_its_id_is_refused(
    store: EphemeralStore, scope: Scope, write: str
) -> None:
    async def run(request: RequestKey) -> Session | None:
        match write:
            case "update":
                return await store.update_session(scope, ID, {"title": "x"}, 2, request)
            case "clear":
                return await store.clear_session(scope, ID, request)
            case _:
                await store.delete_session(scope, ID, request)
                return None

    await store.create_session(scope, _new(), None)
    await _append(store, scope, "a")
    request = _request("M")
    first = await run(request)
    if write != "delete":
        await _append(store, scope, "b")
    again = await run(request)
    if first is not None:
        assert again is not None
        assert (again.revision, again.title) == (first.revision + 1, first.title)
        assert again.window_start == first.window_start
    with pytest.raises(FailedPrecondition) as caught:
        await run(replace(request, digest=b"\x09"))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED


async def test_a_repeated_deletion_leaves_the_next_session_of_its_id(
    store: EphemeralStore, scope: Scope
) -> None:
    request = _request("DeleteSession")
    await store.create_session(scope, _new(), None)
    await store.delete_session(scope, ID, request)
    await store.create_session(scope, _new(), None)
    await store.delete_session(scope, ID, request)
    assert (await store.get_session(scope, ID)).revision == 1


async def test_a_request_of_a_deleted_session_is_not_one_of_the_next_session_of_its_id(
    store: EphemeralStore, scope: Scope
) -> None:
    request = _request()
    await store.create_session(scope, _new(), None)
    await _append(store, scope, "a", request=request)
    await store.delete_session(scope, ID)
    await store.create_session(scope, _new(), None)
    assert (await _append(store, scope, "a", request=request)).session_revision == 2
    assert [m.text for m in await _listed(store, scope)] == ["a"]


async def test_concurrent_updates_all_count(store: EphemeralStore, scope: Scope) -> None:
    await store.create_session(scope, _new(), None)
    changes = [{"title": f"{n}"} for n in range(16)]
    done = await asyncio.gather(*(store.update_session(scope, ID, c, None) for c in changes))
    last = await store.get_session(scope, ID)
    assert last.revision == 17
    assert last in done


async def test_clearing_moves_the_window_and_keeps_the_messages(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(), None)
    await _append(store, scope, "a", "b")
    cleared = await store.clear_session(scope, ID)
    assert (cleared.window_start, cleared.revision) == (3, 3)
    assert len(await _listed(store, scope)) == 2


async def test_what_is_deleted_is_not_found_by_any_method(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(), None)
    await _append(store, scope, "a")
    await store.delete_session(scope, ID)
    for call in (
        store.get_session(scope, ID),
        store.update_session(scope, ID, {"title": "x"}, None),
        store.clear_session(scope, ID),
        store.delete_session(scope, ID),
        _append(store, scope, "b"),
        _listed(store, scope),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason is Reason.SESSION_NOT_FOUND


async def test_sessions_of_other_users_are_others(store: EphemeralStore, scope: Scope) -> None:
    await store.create_session(scope, _new(), None)
    with pytest.raises(NotFound):
        await store.get_session(Scope(scope.tenant, f"{scope.user_id} "), ID)


async def test_the_newest_1000_messages_are_kept_with_their_sequences(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(), None)
    written = 0
    while written <= MOST_MESSAGES:
        count = random.randint(1, 400)
        await _append(store, scope, *(str(written + n + 1) for n in range(count)))
        written += count
    listed = await _listed(store, scope)
    assert [m.sequence for m in listed] == list(range(written - MOST_MESSAGES + 1, written + 1))
    assert all(m.text == str(m.sequence) for m in listed)
    session = await store.get_session(scope, ID)
    assert (session.last_sequence, session.message_count) == (written, MOST_MESSAGES)


async def _is_gone(store: EphemeralStore, scope: Scope) -> bool:
    try:
        await store.get_session(scope, ID)
    except NotFound:
        return True
    return False


async def test_a_session_ends_when_idle_and_not_while_it_is_used(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(idle_ttl=timedelta(seconds=2)), None)
    ends = _now() + timedelta(seconds=3)
    while _now() < ends:
        await _append(store, scope, "a")
    await eventually(lambda: _is_gone(store, scope))


async def test_a_session_ends_at_its_expire_time_however_it_is_used(
    store: EphemeralStore, scope: Scope
) -> None:
    await store.create_session(scope, _new(expire_time=_now() + timedelta(seconds=1)), None)

    async def gone() -> bool:
        try:
            await _append(store, scope, "a")
        except NotFound:
            return True
        return False

    await eventually(gone)


async def test_an_expire_time_can_be_set_and_taken_back(
    store: EphemeralStore, scope: Scope, shared_server: AnyServer
) -> None:
    soon = _now() + timedelta(minutes=1)
    await store.create_session(scope, _new(expire_time=soon), None)
    assert (await store.update_session(scope, ID, {"expire_time": None}, None)).expire_time is None
    later = soon + HOUR
    assert (
        await store.update_session(scope, ID, {"expire_time": later}, None)
    ).expire_time == later
    await store.update_session(scope, ID, {"expire_time": _now() + timedelta(seconds=1)}, None)
    await eventually(lambda: _is_gone(store, scope))


async def test_nothing_of_a_session_outlives_it(
    store: EphemeralStore, scope: Scope, shared_server: AnyServer
) -> None:
    await store.create_session(scope, _new(idle_ttl=timedelta(seconds=1)), None)
    await _append(store, scope, "a", request=_request())
    await eventually(lambda: _is_gone(store, scope))
    await store.create_session(scope, _new(), None)
    assert await _listed(store, scope) == ()
