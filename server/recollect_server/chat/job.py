"""One turn from its first durable write to its last."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from recollect_server.cache.model import CacheOptions, CacheScope, LookupResult
from recollect_server.cache.service import AnswerCache
from recollect_server.chat.model import (
    BegunTurn,
    Completion,
    Delta,
    FinishReason,
    ToolUse,
    TurnState,
)
from recollect_server.chat.ports import ChatModel, TurnStore
from recollect_server.chat.reply import PartialReply, completion_of, deltas_of
from recollect_server.chat.turn import (
    CacheMode,
    ChatOptions,
    Done,
    RunningTurn,
    Started,
    Timings,
    Turn,
    TurnCache,
    replayed,
)
from recollect_server.errors import RecollectError, Unavailable
from recollect_server.ids import uuid7
from recollect_server.memory.audit import AuditLog, Caller
from recollect_server.memory.context import Context, ContextBuilder
from recollect_server.memory.model import Fact, NewMessage, Role
from recollect_server.memory.prompt import Prompt
from recollect_server.scope import RequestKey, Scope

log = structlog.get_logger("recollect.chat")


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What a turn works with.

    Attributes:
        changed: told whose memory a turn changed.
    """

    contexts: ContextBuilder
    cache: AnswerCache
    turns: TurnStore
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
    """Runs one turn and writes its events to `run`."""

    def __init__(self, asked: TurnRequest, work: Collaborators, run: RunningTurn) -> None:
        self.asked = asked
        self.run = run
        self._work = work
        self._begun: BegunTurn | None = None
        self._said = PartialReply()
        self._started = time.perf_counter()
        self._timings = Timings()

    async def execute(self) -> None:
        """Run the turn to its end, or replay it if it is done. Raises what made it fail."""
        asked = self.asked
        begun = await self._begin()
        self._work.changed(asked.scope)
        self.run.emit(Started(begun.turn.turn_id, begun.turn.attempt, begun.user_message))
        if not begun.fresh:
            self._replay(begun)
            return
        context = await self._make_context(begun)
        prompt, key_prompt = self._prompts(begun, context)
        found = await self._ask_cache(context, key_prompt)
        if found is not None and found.entry is not None:
            completion = completion_of(found.entry.answer, found.entry.model)
            for event in deltas_of(completion.parts):
                self._emit_piece(event)
            await self._finish(begun, completion, found, found.entry.entry_id)
            return
        if asked.options.context.audit:
            resource = (
                f"session_id={asked.session_id} turn={begun.turn.turn_id} model={prompt.model}"
            )
            await self._work.audit.record(asked.scope, asked.caller, resource, "OK")
        completion = await self._ask_model(prompt)
        self.run.emit(completion.usage)
        await self._finish(begun, completion, found, "", key_prompt, context)

    async def _begin(self) -> BegunTurn:
        """Begin the turn. A write cannot be taken back, so if cancelled it is waited for."""
        asked = self.asked
        beginning = asyncio.ensure_future(
            self._work.turns.begin_turn(
                asked.scope,
                asked.session_id,
                asked.message,
                turn_id=uuid7(),
                model=asked.options.model or self._work.model.default_model,
                request=asked.request,
                lease_seconds=asked.options.timeout.total_seconds(),
            )
        )
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            begun = await beginning
            self._begun = begun if begun.fresh else None
            raise
        self._begun = begun if begun.fresh else None
        return begun

    async def abandon(self, state: TurnState) -> None:
        """Close a turn that did not end by itself; a cancelled one keeps what was said."""
        if self._begun is None:
            return
        parts = self._said.parts() if state is TurnState.CANCELLED else ()
        reply = (
            NewMessage(Role.ASSISTANT, parts, metadata={"turn_state": "cancelled"})
            if parts
            else None
        )
        try:
            await self._work.turns.finish_turn(self.asked.scope, self._begun.turn, reply, state)
            self._work.changed(self.asked.scope)
        except RecollectError as error:
            log.error("turn not closed", turn_id=self._begun.turn.turn_id, reason=error.reason)

    def _replay(self, begun: BegunTurn) -> None:
        turn = replayed(begun)
        self.run.emit(turn.cache)
        for event in deltas_of(begun.reply.parts if begun.reply else ()):
            self.run.emit(event)
        self.run.emit(Done(turn))

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
        self.run.emit(context)
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
        system = "\n\n".join(filter(None, (options.system, context.system)))
        return replace(key, system=system), key

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
        record, stored = await self._work.turns.finish_turn(
            self.asked.scope, record, reply, TurnState.DONE
        )
        self._begun = None
        self._work.changed(self.asked.scope)
        if key_prompt is not None and context is not None:
            entry_id = await self._store_answer(completion, key_prompt, context)
        self._timings.total = time.perf_counter() - self._started
        cache = _turn_cache(found, entry_id) if found else TurnCache(entry_id=entry_id)
        self.run.emit(Done(Turn(record, begun.user_message, stored, cache, self._timings)))

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
