"""One turn from its first durable write to its last."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from recollect_server.cache.model import CacheOptions, CacheScope, LookupResult
from recollect_server.cache.service import AnswerCache
from recollect_server.chat.following import Following
from recollect_server.chat.keeper import LEASE_SECONDS, Keeper
from recollect_server.chat.model import (
    MAX_INTERRUPTED_ATTEMPTS,
    BegunTurn,
    Completion,
    Delta,
    FinishReason,
    ToolUse,
    TurnRecord,
    TurnStart,
    TurnState,
)
from recollect_server.chat.ports import ChatModel, Relay, TurnStore
from recollect_server.chat.reply import PartialReply, completion_of, deltas_of
from recollect_server.chat.running import RunningTurn
from recollect_server.chat.turn import (
    CacheMode,
    ChatOptions,
    ContextMade,
    Done,
    Interrupted,
    Started,
    Timings,
    Turn,
    TurnCache,
    replayed,
)
from recollect_server.errors import Aborted, OutOfRange, Reason, RecollectError, Unavailable
from recollect_server.ids import uuid7
from recollect_server.memory.audit import AuditLog, Caller
from recollect_server.memory.context import Context, ContextBuilder
from recollect_server.memory.model import Fact, Message, NewMessage, Role
from recollect_server.memory.prompt import Prompt
from recollect_server.memory.watch import Notices
from recollect_server.scope import RequestKey, Scope

T = TypeVar("T")

log = structlog.get_logger("recollect.chat")

QUEUE_POLL_SECONDS = 1.0
"""How often a turn that waits for others of its session looks, if it hears nothing."""


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What a turn works with.

    Attributes:
        notices: tells of changes in any process, so that a turn that waits hears of its session.
        changed: told whose memory a turn changed.
    """

    contexts: ContextBuilder
    cache: AnswerCache
    turns: TurnStore
    keeper: Keeper
    following: Following
    relay: Relay
    notices: Notices
    model: ChatModel
    changed: Callable[[Scope], None]
    audit: AuditLog


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a caller asks of a turn."""

    scope: Scope
    session_id: str
    message: NewMessage
    options: ChatOptions
    request: RequestKey
    caller: Caller


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
        self._said = PartialReply()
        self._started = time.perf_counter()
        self._timings = Timings()

    async def execute(self) -> None:
        """Run the turn to its end; of a repeated request, follow or replay the turn there is.

        Raises:
            TimeoutError: the turn took longer than its timeout.
            Exception: what else made it fail.
        """
        while True:
            begun = await self._begin()
            if begun.fresh:
                break
            if await self._join(begun):
                return
        asked = self.asked
        self._work.changed(asked.scope)
        if self.run.last_sequence:
            self.run.restart()
        self.run.emit(Started(begun.turn.turn_id, begun.turn.attempt, begun.user_message))
        async with asyncio.timeout(asked.options.timeout.total_seconds()):
            await self._answer(begun)

    async def _answer(self, begun: BegunTurn) -> None:
        context = await self._make_context(begun)
        prompt, key_prompt = self._prompts(begun, context)
        found = await self._ask_cache(context, key_prompt)
        if found is not None and found.entry is not None:
            completion = completion_of(found.entry.answer, found.entry.model)
            for event in deltas_of(completion.parts):
                await self.run.room()
                self._emit_piece(event)
            await self._finish(begun, completion, found, found.entry.entry_id)
            return
        if self.asked.options.context.audit:
            resource = (
                f"session_id={self.asked.session_id} turn={begun.turn.turn_id} model={prompt.model}"
            )
            await self._work.audit.record(self.asked.scope, self.asked.caller, resource, "OK")
        completion = await self._ask_model(prompt)
        self.run.emit(completion.usage)
        await self._finish(begun, completion, found, "", key_prompt, context)

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
        interrupted = begun.turn.state is TurnState.INTERRUPTED
        self.run.emit(Interrupted(turn) if interrupted else Done(turn))

    async def abandon(self, state: TurnState, error: RecollectError | None) -> None:
        """Close a turn that did not end by itself, with what was said if it was stopped."""
        if self._begun is None or self.ended:
            return
        kept = state in (TurnState.CANCELLED, TurnState.INTERRUPTED)
        parts = self._said.parts() if kept else ()
        reply = (
            NewMessage(Role.ASSISTANT, parts, metadata={"turn_state": state.name.lower()})
            if parts
            else None
        )
        turn = self._begun.turn
        unkept = self._work.keeper.closing(turn.turn_id)
        try:
            record, stored = await self._work.turns.finish_turn(
                self.asked.scope, turn, reply, state, events=unkept, error=error
            )
            self._work.changed(self.asked.scope)
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
            self._work.keeper.release(self._begun.turn.turn_id)

    async def _make_context(self, begun: BegunTurn) -> Context:
        started = time.perf_counter()
        options = replace(self.asked.options.context, keep_newest=True)
        context = await self._work.contexts.build(
            self.asked.scope,
            self.asked.session_id,
            begun.user_message.text,
            options,
            self.asked.caller,
        )
        self._timings.context = time.perf_counter() - started
        self.run.emit(
            ContextMade(context.items, context.token_count, context.cache_down, context.words_only)
        )
        return context

    def _prompts(self, begun: BegunTurn, context: Context) -> tuple[Prompt, Prompt]:
        """Return what the model gets, and what the cache keys on: the same without memory."""
        options = self.asked.options
        summary = context.session.summary
        key = Prompt(
            model=begun.turn.model,
            system="\n\n".join(filter(None, (options.system, summary.text if summary else ""))),
            tools=options.tools,
            parameters=options.parameters,
            messages=context.messages,
        )
        return replace(key, system=options.system, memory=context.system), key

    async def _ask_cache(self, context: Context, key_prompt: Prompt) -> LookupResult | None:
        options = self.asked.options.cache
        if options.mode is not CacheMode.READ_WRITE:
            return None
        started = time.perf_counter()
        found = await self._work.cache.lookup(
            self.asked.scope,
            self.asked.session_id,
            key_prompt,
            cache_scope=options.scope,
            newest_fact=max(
                (m.recorded_at for m in context.recalled if isinstance(m, Fact)), default=None
            ),
        )
        self._timings.cache = time.perf_counter() - started
        self.run.emit(_turn_cache(found, found.entry.entry_id if found.entry else ""))
        return found

    async def _ask_model(self, prompt: Prompt) -> Completion:
        started = time.perf_counter()
        completion: Completion | None = None
        async with aclosing(self._work.model.stream(prompt)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    completion = event
                    continue
                if not self._timings.model_first_token:
                    self._timings.model_first_token = time.perf_counter() - started
                self._said.add(event)
                self._emit_piece(event)
                await self.run.room()
        if completion is None:
            raise RuntimeError(f"{self._work.model.name} ended its stream without a completion")
        return completion

    def _emit_piece(self, event: Delta | ToolUse) -> None:
        if not self._timings.first_token and isinstance(event, Delta):
            self._timings.first_token = time.perf_counter() - self._started
        self.run.emit(event)

    async def _finish(
        self,
        begun: BegunTurn,
        completion: Completion,
        found: LookupResult | None,
        entry_id: str,
        key_prompt: Prompt | None = None,
        context: Context | None = None,
    ) -> None:
        hit = found is not None and found.entry is not None
        record = replace(
            begun.turn,
            model=completion.model,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            cost_usd=0.0 if hit else self._work.model.cost_usd(completion),
            cache_tier=found.tier if found else None,
            cache_entry_id=entry_id,
        )
        reply = NewMessage(Role.ASSISTANT, completion.parts) if completion.parts else None
        attempt = record.attempt

        def stored(left: tuple[TurnRecord, Message | None]) -> None:
            record, _ = left
            self.ended = record.attempt == attempt and record.state is TurnState.DONE
            self.release()

        record, reply_stored = await self._settled(
            self._work.turns.finish_turn(
                self.asked.scope,
                record,
                reply,
                TurnState.DONE,
                events=self._work.keeper.closing(record.turn_id),
            ),
            stored,
        )
        if not self.ended:
            raise Aborted(Reason.TURN_IN_PROGRESS, "the turn was taken over; repeat the request")
        self._work.changed(self.asked.scope)
        if key_prompt is not None and context is not None:
            entry_id = await self._store_answer(completion, key_prompt, context)
        self._timings.total = time.perf_counter() - self._started
        cache = _turn_cache(found, entry_id) if found else TurnCache(entry_id=entry_id)
        self.run.emit(Done(Turn(record, begun.user_message, reply_stored, cache, self._timings)))

    async def _store_answer(
        self, completion: Completion, key_prompt: Prompt, context: Context
    ) -> str:
        """Store the answer after the reply is durable; return the entry's id, "" if not stored."""
        options = self.asked.options.cache
        unfit = (
            options.mode is CacheMode.OFF
            or completion.finish_reason is not FinishReason.STOP
            or not completion.parts
            or (options.scope is CacheScope.GLOBAL and context.holds_memory)
        )
        if unfit:
            return ""
        try:
            entry = await self._work.cache.store(
                self.asked.scope,
                self.asked.session_id,
                key_prompt,
                completion.parts,
                completion.usage,
                cache_scope=options.scope,
                options=CacheOptions(
                    ttl=options.ttl,
                    tags=options.tags,
                    cited_fact_ids=tuple(
                        m.fact_id for m in context.recalled if isinstance(m, Fact)
                    ),
                    holds_memory=context.holds_memory,
                ),
            )
        except Unavailable as error:
            log.warning("answer not cached", reason=error.reason)
            return ""
        return entry.entry_id


def _turn_cache(found: LookupResult, entry_id: str) -> TurnCache:
    return TurnCache(
        tier=found.tier,
        entry_id=entry_id,
        probability=found.probability,
        miss_reason=found.miss_reason,
    )
