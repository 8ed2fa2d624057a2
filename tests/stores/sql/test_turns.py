"""Turns of chat: begun and closed in one transaction with their messages, run by one process."""

from dataclasses import replace

import pytest
from tests.stores.sql.support import ADA, message, request

from recollect_server.cache.model import CacheTier
from recollect_server.chat.model import BlockKind, Delta, FinishReason, TurnStart, TurnState
from recollect_server.chat.ports import HeldTurn
from recollect_server.chat.turn import ChatEvent, Started
from recollect_server.errors import (
    Aborted,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    Reason,
    Unavailable,
)
from recollect_server.memory.model import NewMessage, Role, TextPart
from recollect_server.memory.prompt import Usage
from recollect_server.scope import Scope

REPLY = NewMessage(Role.ASSISTANT, (TextPart("hello"),))
LEASE = 60.0


async def _begin(
    stores, name="r", turn_id="t", digest=b"digest", scope=ADA, process="p", wait=True, session="s"
):
    start = TurnStart(turn_id, "m", request(name, "Chat", digest), process, LEASE, wait)
    return await stores.turns.begin_turn(scope, session, message("hi"), start)


def _said(*texts: str, first: int = 1) -> tuple[ChatEvent, ...]:
    return tuple(
        ChatEvent(first + n, Delta(0, BlockKind.TEXT, text)) for n, text in enumerate(texts)
    )


async def test_a_turn_is_begun_with_its_message_and_closed_with_its_reply(stores):
    await stores.session()
    begun = await _begin(stores)
    assert begun.fresh
    assert await stores.texts() == ["hi"]
    closing = replace(
        begun.turn,
        usage=Usage(1, 2, 3, 4),
        cost_usd=0.5,
        finish_reason=FinishReason.STOP,
        cache_tier=CacheTier.EXACT,
        cache_entry_id="e",
    )
    record, reply = await stores.turns.finish_turn(ADA, closing, REPLY, TurnState.DONE)
    assert await stores.texts() == ["hi", "hello"]
    again = await _begin(stores, turn_id="other")
    assert not again.fresh
    assert (again.turn, again.reply, again.user_message) == (record, reply, begun.user_message)
    assert (await stores.turns.get_turn(ADA, "t")).turn == record
    assert await stores.texts() == ["hi", "hello"]


async def test_what_a_turn_appends_is_told_once_with_its_revisions(stores):
    await stores.session()
    begun = await _begin(stores)
    await _begin(stores, turn_id="other")
    _, reply = await stores.turns.finish_turn(ADA, begun.turn, REPLY, TurnState.DONE)
    await stores.turns.finish_turn(ADA, begun.turn, REPLY, TurnState.DONE)
    assert [(scope, session_id) for scope, session_id, _ in stores.appended] == [(ADA, "s")] * 2
    asked, answered = (appended for *_, appended in stores.appended)
    assert asked.messages + answered.messages == (begun.user_message, reply)
    assert answered.session_revision == asked.session_revision + 1
    assert answered.session_time == (await stores.sessions.get_session(ADA, "s")).create_time


async def test_a_message_and_its_turn_are_written_together_or_not_at_all(stores):
    with pytest.raises(NotFound):
        await _begin(stores)
    assert await stores.database.read(lambda tx: tx.execute("SELECT COUNT(*) FROM turns")) == [(0,)]


async def test_the_repeat_of_a_running_turn_is_told_where_it_runs(stores):
    await stores.session()
    await _begin(stores)
    again = await _begin(stores, turn_id="u", process="q")
    assert (again.fresh, again.turn.turn_id, again.turn.state) == (False, "t", TurnState.RUNNING)
    assert (await stores.turns.view_turn(ADA, "t", 0)).process == "p"


async def test_another_request_under_the_same_id_is_refused(stores):
    await stores.session()
    await _begin(stores)
    with pytest.raises(FailedPrecondition):
        await _begin(stores, digest=b"other")


async def test_a_failed_turn_keeps_its_reason_and_is_tried_again_with_the_same_message(stores):
    await stores.session()
    begun = await _begin(stores)
    why = Unavailable(Reason.MODEL_OVERLOADED, "busy", 2.5)
    await stores.turns.finish_turn(ADA, begun.turn, None, TurnState.FAILED, error=why)
    error = (await stores.turns.view_turn(ADA, "t", 0)).error
    assert isinstance(error, Unavailable)
    assert (error.reason, error.message, error.retry_after) == (why.reason, "busy", 2.5)
    again = await _begin(stores, turn_id="ignored")
    assert (again.fresh, again.turn.attempt, again.turn.turn_id) == (True, 2, "t")
    assert (await stores.turns.view_turn(ADA, "t", 0)).error is None
    assert await stores.texts() == ["hi"]


async def test_a_turn_whose_server_died_is_interrupted_with_what_it_said_and_tried_once_more(
    stores, other
):
    await stores.session()
    begun = await _begin(stores)
    events = (ChatEvent(1, Started("t", 1, begun.user_message)), *_said("one ", "two", first=2))
    await stores.turns.keep_turns("p", [HeldTurn("t", 1, events[:2])], LEASE)
    await stores.turns.keep_turns("p", [HeldTurn("t", 1, events[2:])], LEASE)
    assert (await other.turns.view_turn(ADA, "t", 1)).events == events[1:]
    stores.clock.move(seconds=61)
    left = await other.turns.get_turn(ADA, "t")
    assert left.turn.state is TurnState.INTERRUPTED
    assert (left.reply.text, left.reply.sequence) == ("one two", 0)
    assert left.reply.metadata == {"turn_state": "interrupted"}
    assert (await other.turns.view_turn(ADA, "t", 0)).last_event == 3
    assert await stores.texts() == ["hi"]
    second = await _begin(other, process="q")
    assert (second.fresh, second.turn.attempt, second.reply) == (True, 2, None)
    assert (await other.turns.view_turn(ADA, "t", 0)).events == ()
    stores.clock.move(seconds=61)
    third = await _begin(stores)
    assert (third.fresh, third.turn.attempt) == (False, 2)
    assert (await stores.turns.get_turn(ADA, "t")).turn.state is TurnState.INTERRUPTED


async def test_turns_left_alone_are_found(stores):
    await stores.session()
    await _begin(stores)
    assert await stores.turns.interrupt_lapsed() == 0
    stores.clock.move(seconds=61)
    assert await stores.turns.interrupt_lapsed() == 1
    assert await stores.rows("SELECT state FROM turns") == [(int(TurnState.INTERRUPTED),)]
    assert await stores.turns.interrupt_lapsed() == 0


async def test_a_lease_is_prolonged_by_its_owner_only_and_not_after_its_end(stores, other):
    await stores.session()
    await _begin(stores)
    held = [HeldTurn("t", 1, ())]
    stores.clock.move(seconds=50)
    assert (await stores.turns.keep_turns("p", held, LEASE)).lost == set()
    assert (await other.turns.keep_turns("q", held, LEASE)).lost == {"t"}
    stores.clock.move(seconds=50)
    assert (await stores.turns.get_turn(ADA, "t")).turn.state is TurnState.RUNNING
    stores.clock.move(seconds=11)
    assert (await stores.turns.keep_turns("p", held, LEASE)).lost == {"t"}


async def test_an_attempt_that_was_given_up_stores_nothing_more(stores, other):
    await stores.session()
    first = (await _begin(stores)).turn
    stores.clock.move(seconds=61)
    second = (await _begin(other, process="q")).turn
    late = await stores.turns.keep_turns("p", [HeldTurn("t", 1, _said("late"))], LEASE)
    assert late.lost == {"t"}
    record, reply = await stores.turns.finish_turn(
        ADA, first, REPLY, TurnState.DONE, events=_said("late")
    )
    assert (record.attempt, record.state, reply) == (2, TurnState.RUNNING, None)
    assert await stores.texts() == ["hi"]
    assert await stores.rows("SELECT * FROM turn_events") == []
    await other.turns.finish_turn(ADA, second, REPLY, TurnState.DONE)
    assert await stores.texts() == ["hi", "hello"]


async def test_a_turn_that_was_left_alone_cannot_go_on_once_another_of_its_session_runs(stores):
    await stores.session()
    first = (await _begin(stores)).turn
    stores.clock.move(seconds=61)
    assert (await _begin(stores, "r2", "u")).fresh
    record, reply = await stores.turns.finish_turn(ADA, first, REPLY, TurnState.DONE)
    assert (record.state, reply) == (TurnState.INTERRUPTED, None)
    assert await stores.texts() == ["hi", "hi"]


async def test_a_turn_is_closed_once(stores):
    await stores.session()
    first = (await _begin(stores)).turn
    done, reply = await stores.turns.finish_turn(ADA, first, REPLY, TurnState.DONE)
    late = await stores.turns.finish_turn(ADA, first, REPLY, TurnState.CANCELLED)
    assert late == (done, reply)
    assert await stores.texts() == ["hi", "hello"]


async def test_turns_of_a_session_wait_for_each_other_in_the_order_they_came(stores, other):
    await stores.session()
    first = (await _begin(stores, "r1", "t1")).turn
    assert await _begin(other, "r2", "t2") is None
    assert await _begin(stores, "r3", "t3") is None
    with pytest.raises(Aborted) as caught:
        await _begin(stores, "r4", "t4", wait=False)
    assert caught.value.reason is Reason.TURN_IN_PROGRESS
    assert await stores.texts() == ["hi"]
    await stores.turns.finish_turn(ADA, first, REPLY, TurnState.DONE)
    assert await _begin(stores, "r3", "t3") is None
    second = await _begin(other, "r2", "t2")
    assert second.fresh
    await other.turns.finish_turn(ADA, second.turn, REPLY, TurnState.DONE)
    assert (await _begin(stores, "r3", "t3")).fresh
    await stores.session("s2")
    assert (await _begin(stores, "r5", "t5", session="s2")).fresh


async def test_a_turn_that_waits_no_more_holds_nobody_up(stores):
    await stores.session()
    first = (await _begin(stores, "r1", "t1")).turn
    assert await _begin(stores, "r2", "t2") is None
    assert await _begin(stores, "r3", "t3") is None
    await stores.turns.finish_turn(ADA, first, REPLY, TurnState.DONE)
    await stores.turns.leave_queue(ADA, "s", "t2")
    third = await _begin(stores, "r3", "t3")
    assert third.fresh
    assert await _begin(stores, "r4", "t4") is None
    await stores.turns.finish_turn(ADA, third.turn, REPLY, TurnState.DONE)
    stores.clock.move(seconds=11)
    assert (await _begin(stores, "r5", "t5")).fresh


async def test_a_turn_is_cancelled_from_elsewhere(stores, other):
    await stores.session()
    turn = (await _begin(stores)).turn
    held = [HeldTurn("t", 1, ())]
    assert (await stores.turns.keep_turns("p", held, LEASE)).cancelled == set()
    assert (await other.turns.request_cancel(ADA, "t")).process == "p"
    assert (await stores.turns.keep_turns("p", held, LEASE)).cancelled == {"t"}
    await stores.turns.finish_turn(ADA, turn, None, TurnState.CANCELLED)
    view = await other.turns.request_cancel(ADA, "t")
    assert view.begun.turn.state is TurnState.CANCELLED


async def test_a_turn_that_starts_over_counts_its_events_anew(stores):
    await stores.session()
    first = (await _begin(stores)).turn
    await stores.turns.keep_turns("p", [HeldTurn("t", 1, _said("a", "b"))], LEASE)
    second = await stores.turns.start_over(ADA, first)
    assert second.attempt == 2
    assert (await stores.turns.view_turn(ADA, "t", 0)).events == ()
    with pytest.raises(Aborted):
        await stores.turns.start_over(ADA, first)
    end = _said("c")
    await stores.turns.finish_turn(ADA, second, REPLY, TurnState.DONE, events=end)
    assert (await stores.turns.view_turn(ADA, "t", 0)).events == end


async def test_events_are_kept_for_ten_minutes_after_the_end(stores):
    await stores.session()
    turn = (await _begin(stores)).turn
    await stores.turns.keep_turns("p", [HeldTurn("t", 1, _said("a", "b"))], LEASE)
    await stores.turns.keep_turns("p", [HeldTurn("t", 1, _said("b", "c", first=2))], LEASE)
    end = _said("d", first=4)
    await stores.turns.finish_turn(ADA, turn, REPLY, TurnState.DONE, events=end)
    view = await stores.turns.view_turn(ADA, "t", 1)
    assert view.events == _said("b", "c", "d", first=2)
    assert view.last_event == 4
    stores.clock.move(minutes=9)
    assert await stores.turns.prune_events() == 0
    stores.clock.move(minutes=2)
    assert await stores.turns.prune_events() == 3
    with pytest.raises(OutOfRange) as caught:
        await stores.turns.view_turn(ADA, "t", 1)
    assert caught.value.reason is Reason.RESUME_TOKEN_EXPIRED
    assert (await stores.turns.view_turn(ADA, "t", 4)).events == ()
    assert (await stores.turns.get_turn(ADA, "t")).reply.text == "hello"


async def test_turns_are_scoped_and_go_with_their_session(stores):
    await stores.session()
    await _begin(stores)
    await stores.turns.keep_turns("p", [HeldTurn("t", 1, _said("a"))], LEASE)
    assert await _begin(stores, "r2", "t2") is None
    for stranger in (Scope("acme", "bob"), Scope("other", "ada")):
        for asked in (
            stores.turns.get_turn(stranger, "t"),
            stores.turns.view_turn(stranger, "t", 0),
            stores.turns.request_cancel(stranger, "t"),
        ):
            with pytest.raises(NotFound):
                await asked
    await stores.sessions.delete_session(ADA, "s")
    with pytest.raises(NotFound):
        await stores.turns.get_turn(ADA, "t")
    for table in ("turns", "turn_events", "turn_queue"):
        assert await stores.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)]
    assert (await stores.turns.keep_turns("p", [HeldTurn("t", 1, ())], LEASE)).lost == {"t"}
