"""What a turn does with the reply of another one that it shares a model call with."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recollect_server.chat.answer import Answering
from recollect_server.chat.model import BlockKind, Delta
from recollect_server.chat.ports import Flight
from recollect_server.chat.running import RunningTurn
from recollect_server.chat.turn import ChatEvent, Started, Timings
from recollect_server.scope import Scope


@pytest.mark.parametrize("heard", [0, 1])
async def test_a_reply_that_starts_over_is_followed_unless_some_of_it_was_streamed(heard):
    def attempt(number: int) -> list[Any]:
        return [Started("leader", number, cast(Any, None)), Delta(0, BlockKind.TEXT, "word ")]

    told = [*attempt(1)[: 1 + heard], *attempt(2)]

    async def events(scope: Scope, turn_id: str, after: int):
        for sequence, happening in enumerate(told, 1):
            yield ChatEvent(sequence, happening)

    run = RunningTurn(b"")
    answering = Answering(
        cast(Any, SimpleNamespace(scope=Scope("acme", "ada"))),
        cast(Any, SimpleNamespace(following=SimpleNamespace(events=events))),
        run,
        Timings(),
        0.0,
        cast(Any, None),
    )
    assert await answering._follow(Flight("ada", "leader", datetime.now(UTC))) is None
    assert [event.happening.text for event in run.since(0)] == ["word "]
