"""Turns of chat: begun and closed in one transaction with their messages."""

from dataclasses import replace

import pytest
from tests.stores.sql.support import ADA, message, request

from recollect_server.cache.model import CacheTier
from recollect_server.chat.model import FinishReason, TurnState
from recollect_server.errors import Aborted, FailedPrecondition, NotFound, Reason
from recollect_server.memory.model import NewMessage, Role, TextPart
from recollect_server.memory.prompt import Usage
from recollect_server.scope import Scope

REPLY = NewMessage(Role.ASSISTANT, (TextPart("hello"),))


async def _begin(stores, name="r", turn_id="t", digest=b"digest", scope=ADA):
    return await stores.turns.begin_turn(
        scope,
        "s",
        message("hi"),
        turn_id=turn_id,
        model="m",
        request=request(name, "Chat", digest),
        lease_seconds=60,
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


async def test_a_message_and_its_turn_are_written_together_or_not_at_all(stores):
    with pytest.raises(NotFound):
        await _begin(stores)
    assert await stores.database.read(lambda tx: tx.execute("SELECT COUNT(*) FROM turns")) == [(0,)]


async def test_a_running_turn_refuses_its_repeat(stores):
    await stores.session()
    await _begin(stores)
    with pytest.raises(Aborted) as caught:
        await _begin(stores)
    assert caught.value.reason is Reason.TURN_IN_PROGRESS


async def test_another_request_under_the_same_id_is_refused(stores):
    await stores.session()
    await _begin(stores)
    with pytest.raises(FailedPrecondition):
        await _begin(stores, digest=b"other")


async def test_a_failed_turn_is_tried_again_without_repeating_its_message(stores):
    await stores.session()
    begun = await _begin(stores)
    await stores.turns.finish_turn(ADA, begun.turn, None, TurnState.FAILED)
    again = await _begin(stores, turn_id="ignored")
    assert (again.fresh, again.turn.attempt, again.turn.turn_id) == (True, 2, "t")
    assert await stores.texts() == ["hi"]


async def test_a_turn_whose_server_died_is_tried_again_once(stores):
    await stores.session()
    await _begin(stores)
    stores.clock.move(seconds=61)
    assert (await stores.turns.get_turn(ADA, "t")).turn.state is TurnState.INTERRUPTED
    second = await _begin(stores)
    assert (second.fresh, second.turn.attempt) == (True, 2)
    stores.clock.move(seconds=61)
    third = await _begin(stores)
    assert (third.fresh, third.turn.state) == (False, TurnState.INTERRUPTED)


async def test_turns_are_scoped_and_go_with_their_session(stores):
    await stores.session()
    await _begin(stores)
    for stranger in (Scope("acme", "bob"), Scope("other", "ada")):
        with pytest.raises(NotFound):
            await stores.turns.get_turn(stranger, "t")
    await stores.sessions.delete_session(ADA, "s")
    with pytest.raises(NotFound):
        await stores.turns.get_turn(ADA, "t")


async def test_a_turn_is_closed_once_by_the_attempt_that_runs_it(stores):
    await stores.session()
    first = (await _begin(stores)).turn
    done, reply = await stores.turns.finish_turn(ADA, first, REPLY, TurnState.DONE)
    late = await stores.turns.finish_turn(ADA, first, REPLY, TurnState.CANCELLED)
    assert late == (done, reply)
    assert await stores.texts() == ["hi", "hello"]


async def test_an_attempt_that_was_given_up_stores_nothing_more(stores):
    await stores.session()
    first = (await _begin(stores)).turn
    stores.clock.move(seconds=61)
    second = (await _begin(stores)).turn
    record, reply = await stores.turns.finish_turn(ADA, first, REPLY, TurnState.DONE)
    assert (record.attempt, record.state, reply) == (2, TurnState.RUNNING, None)
    assert await stores.texts() == ["hi"]
    await stores.turns.finish_turn(ADA, second, REPLY, TurnState.DONE)
    assert await stores.texts() == ["hi", "hello"]
