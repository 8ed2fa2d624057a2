"""Following a turn wherever it runs: here, in another process, or not any more."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from recollect_server.chat.keeper import Keeper
from recollect_server.chat.model import TurnState
from recollect_server.chat.ports import Follow, News, Relay, TurnStore, TurnView
from recollect_server.chat.turn import ChatEvent, Done, Interrupted, replayed
from recollect_server.errors import Cancelled, Reason
from recollect_server.scope import Scope

POLL_SECONDS = 1.0
"""How long a follower hears nothing before it looks into the store."""
MOST_WAITING = 64
"""Messages that wait for a slow follower; what does not fit is read from the store later."""


class Following:
    """Streams of turns' events.

    Args:
        relay: brings events of turns that run in other processes.
    """

    def __init__(self, turns: TurnStore, keeper: Keeper, relay: Relay) -> None:
        self._turns = turns
        self._keeper = keeper
        self._relay = relay

    async def events(
        self, scope: Scope, turn_id: str, after: int, attempt: int = 0
    ) -> AsyncGenerator[ChatEvent]:
        """Yield the events of a turn after a sequence, as they come, up to its end.

        Args:
            attempt: the one that `after` counts in; of a later one everything is yielded. 0 for
                the present one.

        Raises:
            NotFound: TURN_NOT_FOUND.
            OutOfRange: RESUME_TOKEN_EXPIRED, it ended too long ago.
            Cancelled: TURN_CANCELLED, the turn was.
            RecollectError: what made the turn fail.
        """
        run = self._keeper.find(scope, turn_id)
        if run is not None:
            begin = after if attempt in (0, run.attempt) else 0
            async with aclosing(run.events(begin)) as events:
                async for event in events:
                    yield event
            return
        news: asyncio.Queue[News] = asyncio.Queue(MOST_WAITING)

        def heard(message: News) -> None:
            if not news.full():
                news.put_nowait(message)

        self._keeper.listen(turn_id, heard)
        try:
            while True:
                view = await self._turns.view_turn(scope, turn_id, after)
                turn = view.begun.turn
                if attempt and turn.attempt != attempt and after:
                    after, attempt = 0, turn.attempt
                    continue
                attempt = turn.attempt
                for event in view.events:
                    after = event.sequence
                    yield event
                if turn.state is not TurnState.RUNNING:
                    if turn.state is TurnState.DONE and after > view.last_event:
                        return
                    # A killed server may have streamed more than it had stored.
                    yield ChatEvent(max(after, view.last_event) + 1, _end(view))
                    return
                async with aclosing(self._live(view, after, news)) as live:
                    async for event in live:
                        after = event.sequence
                        yield event
        finally:
            self._keeper.unlisten(turn_id, heard)

    async def _live(
        self, view: TurnView, after: int, news: asyncio.Queue[News]
    ) -> AsyncGenerator[ChatEvent]:
        """Yield what the turn's process sends, until it is silent or something is missing."""
        turn = view.begun.turn
        asked = 0.0
        while True:
            if time.monotonic() - asked > POLL_SECONDS:
                asked = time.monotonic()
                ask = Follow(turn.turn_id, self._relay.process, turn.attempt, after)
                self._relay.send(view.process, ask)
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    message = await news.get()
            except TimeoutError:
                return
            if message.attempt != turn.attempt or not message.events:
                return
            for event in message.events:
                if event.sequence > after + 1:
                    return
                if event.sequence == after + 1:
                    after = event.sequence
                    yield event


def _end(view: TurnView) -> Done | Interrupted:
    turn = replayed(view.begun)
    match view.begun.turn.state:
        case TurnState.DONE:
            return Done(turn)
        case TurnState.INTERRUPTED:
            return Interrupted(turn)
        case TurnState.CANCELLED:
            raise Cancelled(Reason.TURN_CANCELLED, "the turn was cancelled")
        case _:
            raise view.error or RuntimeError("the turn failed by a defect")
