"""One turn from its first durable write to its last."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

import structlog

from recollect_server.chat.answer import Answer, Answering
from recollect_server.chat.keeper import LEASE_SECONDS
from recollect_server.chat.model import (
    MAX_INTERRUPTED_ATTEMPTS,
    BegunTurn,
    TurnRecord,
    TurnStart,
    TurnState,
)
from recollect_server.chat.reply import deltas_of
from recollect_server.chat.running import RunningTurn
from recollect_server.chat.turn import Done, Interrupted, Started, Timings, Turn, replayed
from recollect_server.chat.work import Collaborators, TurnRequest
from recollect_server.errors import (
    Aborted,
    Cancelled,
    NotFound,
    OutOfRange,
    Reason,
    RecollectError,
)
from recollect_server.ids import uuid7
from recollect_server.memory.model import Message, NewMessage, Role, plain_text

T = TypeVar("T")

log = structlog.get_logger("recollect.chat")

QUEUE_POLL_SECONDS = 1.0
"""How often a turn that waits for others of its session looks, if it hears nothing."""


class TurnJob:
    """Runs one turn and writes its events to `run`.

    Attributes:
        ended: how it ended is stored, and its readers were told.
    """

    def __init__(self, asked: TurnRequest, work: Collaborators, run: RunningTurn) -> None:
        self.asked = asked
        self.run = run
        self.ended = False
        self._work = work
        self._turn_id = uuid7()
        self._begun: BegunTurn | None = None
        self._started = time.perf_counter()
        self._timings = Timings()
        self._answering = Answering(
            asked, work, run, self._timings, self._started, self._start_over
        )

    async def execute(self) -> None:
        """Run the turn to its end; of a repeated request, follow or replay the turn there is.

        Raises:
            TimeoutError: the turn took longer than its timeout.
            Exception: what else made it fail.
        """
        asked = self.asked
        # Its embedding takes longer than the turn takes to be durable.
        self._work.contexts.expect(
            asked.scope, plain_text(asked.message.parts), asked.options.context
        )
        while True:
            begun = await self._begin()
            if begun.fresh:
                break
            if await self._join(begun):
                return
        self._work.changed(asked.scope)
        if self.run.last_sequence:
            self.run.restart()
        self.run.emit(Started(begun.turn.turn_id, begun.turn.attempt, begun.user_message))
        async with asyncio.timeout(asked.options.timeout.total_seconds()), self._answering as how:
            await self._finish(await how.find(begun))

    async def _begin(self) -> BegunTurn:
        """Begin the turn, once those before it in its session have ended."""
        asked, turns = self.asked, self._work.turns
        start = TurnStart(
            turn_id=self._turn_id,
            model=asked.options.model or self._work.model.default_model,
            request=asked.request,
            process=self._work.keeper.process,
            lease_seconds=LEASE_SECONDS,
            wait=not asked.options.abort_if_busy,
        )
        ear = self._work.notices.subscribe(asked.scope)
        waiting = False
        try:
            while True:
                begun = await self._settled(
                    turns.begin_turn(asked.scope, asked.session_id, asked.message, start),
                    self._take,
                )
                if begun is not None:
                    waiting = False
                    return begun
                waiting = True
                await ear.wait(QUEUE_POLL_SECONDS)
        finally:
            ear.close()
            if waiting:
                await turns.leave_queue(asked.scope, asked.session_id, self._turn_id)

    def _take(self, begun: BegunTurn | None) -> None:
        if begun is not None and begun.fresh:
            self._begun = begun
            self.run.attempt = begun.turn.attempt
            turn = begun.turn
            self._work.keeper.hold(self.asked.scope, turn.turn_id, turn.attempt, self.run)

    async def _settled(self, write: Awaitable[T], take: Callable[[T], None]) -> T:
        """Do a write and take in its result: it cannot be taken back, so if cancelled wait."""
        writing = asyncio.ensure_future(write)
        try:
            result = await asyncio.shield(writing)
        except asyncio.CancelledError:
            if not writing.cancelled():
                take(await writing)
            raise
        take(result)
        return result

    async def _join(self, begun: BegunTurn) -> bool:
        """Follow a turn that runs elsewhere, or has ended; False if it may be taken over."""
        turn_id = begun.turn.turn_id
        following = self._work.following.events(self.asked.scope, turn_id, 0)
        try:
            async with aclosing(following) as events:
                async for event in events:
                    match event.happening:
                        case Interrupted(turn) if turn.record.attempt < MAX_INTERRUPTED_ATTEMPTS:
                            return False
                        case Started() if self.run.last_sequence:
                            self.run.restart()
                    await self.run.room()
                    self.run.emit(event.happening)
        except OutOfRange:
            # Its events are gone, its reply is not.
            await self._replay(begun)
        return True

    async def _replay(self, begun: BegunTurn) -> None:
        turn = replayed(begun)
        self.run.emit(Started(begun.turn.turn_id, begun.turn.attempt, begun.user_message))
        self.run.emit(turn.cache)
        for event in deltas_of(begun.reply.parts if begun.reply else ()):
            await self.run.room()
            self.run.emit(event)
        match begun.turn.state:
            case TurnState.CANCELLED:
                raise Cancelled(Reason.TURN_CANCELLED, "the turn was cancelled")
            case TurnState.INTERRUPTED:
                self.run.emit(Interrupted(turn))
            case _:
                self.run.emit(Done(turn))

    async def abandon(self, state: TurnState, error: RecollectError | None) -> None:
        """Close a turn that did not end by itself, with what was said if it was stopped.

        Raises:
            NotFound: SESSION_NOT_FOUND, the session was deleted and the turn with it.
        """
        if self._begun is None or self.ended:
            return
        kept = state in (TurnState.CANCELLED, TurnState.INTERRUPTED)
        parts = self._answering.said.parts() if kept else ()
        reply = (
            NewMessage(Role.ASSISTANT, parts, metadata={"turn_state": state.name.lower()})
            if parts
            else None
        )
        turn = self._begun.turn
        unkept = self._work.keeper.closing(turn.turn_id, self.run)
        try:
            record, stored = await self._work.turns.finish_turn(
                self.asked.scope, turn, reply, state, events=unkept, error=error
            )
            self._work.changed(self.asked.scope)
        except NotFound:
            raise
        except RecollectError as failed:
            log.error("turn not closed", turn_id=turn.turn_id, reason=failed.reason)
            return
        if state is TurnState.INTERRUPTED:
            left = BegunTurn(record, self._begun.user_message, fresh=False, reply=stored)
            self.run.emit(Interrupted(replayed(left)))
            self.ended = True

    def release(self) -> None:
        """Keep the turn no more."""
        if self._begun is not None:
            self._work.keeper.release(self._begun.turn.turn_id, self.run)

    async def _start_over(self) -> None:
        """Begin another attempt of the turn, whose readers get its events from the first on."""
        assert self._begun is not None, "only a turn that has begun starts over"
        record = await self._work.turns.start_over(self.asked.scope, self._begun.turn)
        self._work.keeper.release(record.turn_id, self.run)
        self.run.restart()
        self._take(replace(self._begun, turn=record))
        self.run.emit(Started(record.turn_id, record.attempt, self._begun.user_message))

    async def _finish(self, answer: Answer) -> None:
        begun, completion = self._begun, answer.completion
        assert begun is not None, "only a turn that has begun is finished"
        attempt = begun.turn.attempt
        record = replace(
            begun.turn,
            model=completion.model,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            cost_usd=answer.cost_usd,
            cache_tier=answer.cache.tier,
            cache_entry_id=answer.cache.entry_id,
        )
        reply = NewMessage(Role.ASSISTANT, completion.parts) if completion.parts else None

        def stored(left: tuple[TurnRecord, Message | None]) -> None:
            record, _ = left
            self.ended = record.attempt == attempt and record.state is TurnState.DONE
            self.release()

        record, message = await self._settled(
            self._work.turns.finish_turn(
                self.asked.scope,
                record,
                reply,
                TurnState.DONE,
                events=self._work.keeper.closing(record.turn_id, self.run),
            ),
            stored,
        )
        if not self.ended:
            raise Aborted(Reason.TURN_IN_PROGRESS, "the turn was taken over; repeat the request")
        self._work.changed(self.asked.scope)
        cache = await self._answering.keep(answer)
        self._timings.total = time.perf_counter() - self._started
        self.run.emit(Done(Turn(record, begun.user_message, message, cache, self._timings)))
