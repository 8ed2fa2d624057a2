"""The answer of one turn: from the cache, from a turn that asks the same just now, or a model's."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Self

import structlog
from msgspec import structs

from recollect_server.cache.model import (
    CacheOptions,
    CacheScope,
    CacheTier,
    LookupResult,
)
from recollect_server.chat.model import BegunTurn, Completion, Delta, FinishReason, ToolUse
from recollect_server.chat.ports import Flight
from recollect_server.chat.reply import PartialReply, completion_of, deltas_of
from recollect_server.chat.running import RunningTurn
from recollect_server.chat.turn import (
    CacheMode,
    ContextMade,
    Done,
    Interrupted,
    Started,
    Timings,
    TurnCache,
)
from recollect_server.chat.work import Collaborators, TurnRequest
from recollect_server.errors import (
    Cancelled,
    DeadlineExceeded,
    NotFound,
    OutOfRange,
    Unavailable,
)
from recollect_server.memory.context import Context
from recollect_server.memory.model import Fact, PromptMessage
from recollect_server.memory.prompt import Prompt, Usage
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.chat")

FLIGHT_SECONDS = 15.0
"""How long the claim to a model call lasts after its last sign of life."""
PROLONG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a turn is answered with.

    Attributes:
        cost_usd: of the model's call, 0 where there was none.
        is_new: a model made it for this turn.
    """

    completion: Completion
    cache: TurnCache
    cost_usd: float
    is_new: bool


class Answering:
    """Finds the answer of a begun turn and streams it to `run`. Leave it by `async with`.

    Attributes:
        said: what was streamed so far.

    Args:
        started: when the turn was asked for, by the performance counter.
        start_over: begins another attempt of the turn, for a reply that has to start over.
    """

    def __init__(
        self,
        asked: TurnRequest,
        work: Collaborators,
        run: RunningTurn,
        timings: Timings,
        started: float,
        start_over: Callable[[], Awaitable[None]],
    ) -> None:
        self.said = PartialReply()
        self._asked = asked
        self._work = work
        self._run = run
        self._timings = timings
        self._started = started
        self._start_over = start_over
        self._context: Context | None = None
        self._key_prompt: Prompt | None = None
        self._began: datetime | None = None
        self._flight: tuple[str, Flight] | None = None
        self._prolonging: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._prolonging is not None:
            self._prolonging.cancel()
        if self._flight is not None:
            await self._land(*self._flight)

    async def find(self, begun: BegunTurn) -> Answer:
        """Find the answer."""
        self._began = begun.turn.update_time
        context = self._context = await self._make_context(begun)
        prompt, key_prompt = self._prompts(begun, context)
        self._key_prompt = key_prompt
        flight_key = self._flight_key(context, key_prompt)
        leader = await self._claim(flight_key, begun)
        found = await self._ask_cache(context, key_prompt)
        if found is not None and found.entry is not None:
            return await self._cached(found)
        while leader is not None and _may_share(leader, context):
            completion = await self._follow(leader)
            if completion is not None:
                entry_id = flight_key if completion.finish_reason is FinishReason.STOP else ""
                served = TurnCache(CacheTier.EXACT, entry_id, 1.0)
                return Answer(completion, served, 0.0, is_new=False)
            if self.said.started:
                await self._take_back(context, found)
            leader = await self._claim(flight_key, begun, instead_of=leader)
        if self._asked.options.context.audit:
            resource = (
                f"session_id={self._asked.session_id} turn={begun.turn.turn_id} "
                f"model={prompt.model}"
            )
            await self._work.audit.record(self._asked.scope, self._asked.caller, resource, "OK")
        completion = await self._ask_model(prompt)
        self._run.emit(completion.usage)
        missed = _turn_cache(found) if found is not None else TurnCache()
        cost = self._work.model.cost_usd(completion)
        return Answer(completion, missed, cost, is_new=True)

    async def keep(self, answer: Answer) -> TurnCache:
        """Store a new answer in the cache after the reply is durable; return what the cache did.

        Only what is whole and will hold is stored: no tool call, refusal or cut answer.
        """
        options, context = self._asked.options.cache, self._context
        unfit = (
            not answer.is_new
            or context is None
            or self._key_prompt is None
            or options.mode is CacheMode.OFF
            or answer.completion.finish_reason is not FinishReason.STOP
            or not answer.completion.parts
            or (options.scope is CacheScope.GLOBAL and context.holds_memory)
        )
        if unfit or context is None or self._key_prompt is None:
            return answer.cache
        try:
            entry = await self._work.cache.store(
                self._asked.scope,
                self._asked.session_id,
                self._key_prompt,
                answer.completion.parts,
                answer.completion.usage,
                cache_scope=options.scope,
                options=CacheOptions(
                    ttl=options.ttl,
                    tags=options.tags,
                    cited_fact_ids=tuple(
                        m.fact_id for m in context.recalled if isinstance(m, Fact)
                    ),
                    holds_memory=context.holds_memory,
                    context_time=self._began,
                ),
            )
        except Unavailable as error:
            log.warning("answer not cached", reason=error.reason)
            return answer.cache
        return replace(answer.cache, entry_id=entry.entry_id)

    async def _make_context(self, begun: BegunTurn) -> Context:
        started = time.perf_counter()
        options = replace(self._asked.options.context, asked=begun.user_message)
        context = await self._work.contexts.build(
            self._asked.scope,
            self._asked.session_id,
            begun.user_message.text,
            options,
            self._asked.caller,
        )
        self._timings.context = time.perf_counter() - started
        self._emit_context(context)
        return context

    def _emit_context(self, context: Context) -> None:
        self._run.emit(
            ContextMade(context.items, context.token_count, context.cache_down, context.words_only)
        )

    def _prompts(self, begun: BegunTurn, context: Context) -> tuple[Prompt, Prompt]:
        """Return what the model gets, and what the cache keys on: the same without memory."""
        options = self._asked.options
        summary = context.session.summary
        key = Prompt(
            model=begun.turn.model,
            system="\n\n".join(filter(None, (options.system, summary.text if summary else ""))),
            tools=options.tools,
            parameters=options.parameters,
            messages=tuple(PromptMessage(m.role, m.parts) for m in context.messages),
        )
        return structs.replace(key, system=options.system, memory=context.system), key

    async def _ask_cache(self, context: Context, key_prompt: Prompt) -> LookupResult | None:
        options = self._asked.options.cache
        if options.mode is not CacheMode.READ_WRITE:
            return None
        started = time.perf_counter()
        found = await self._work.cache.lookup(
            self._asked.scope,
            self._asked.session_id,
            key_prompt,
            cache_scope=options.scope,
            newest_fact=_newest_fact(context),
        )
        self._timings.cache = time.perf_counter() - started
        self._run.emit(_turn_cache(found))
        return found

    async def _cached(self, found: LookupResult) -> Answer:
        assert found.entry is not None, "only a hit is served"
        completion = completion_of(found.entry.answer, found.entry.model)
        for event in deltas_of(completion.parts):
            await self._run.room()
            self._emit(event)
        return Answer(completion, _turn_cache(found), 0.0, is_new=False)

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
                self._emit(event)
                if self._run.full:
                    await self._run.room()
        if completion is None:
            raise RuntimeError(f"{self._work.model.name} ended its stream without a completion")
        await self._work.charge(self._asked.scope, completion.usage.total_tokens)
        return completion

    def _emit(self, event: Delta | ToolUse) -> None:
        if not self._timings.first_token and isinstance(event, Delta):
            self._timings.first_token = time.perf_counter() - self._started
        self.said.add(event)
        self._run.emit(event)

    # One model call for all who ask the same at once

    def _flight_key(self, context: Context, key_prompt: Prompt) -> str:
        """Return what turns that may share a call have in common, "" if none may with this."""
        options = self._asked.options.cache
        alone = (
            options.mode is not CacheMode.READ_WRITE
            # Turns of a session run one after the other.
            or options.scope is CacheScope.SESSION
            or (options.scope is CacheScope.GLOBAL and context.holds_memory)
        )
        if alone:
            return ""
        return self._work.cache.entry_id(
            self._asked.scope, self._asked.session_id, key_prompt, options.scope
        )

    async def _claim(
        self, key: str, begun: BegunTurn, instead_of: Flight | None = None
    ) -> Flight | None:
        """Claim the model call; return whose it is if another turn was first.

        Args:
            instead_of: whose claim counts no more.
        """
        if not key:
            return None
        scope, turn = self._asked.scope, begun.turn
        mine = Flight(scope.user_id, turn.turn_id, turn.update_time)
        try:
            leader = await self._work.flights.claim(
                scope.tenant, key, mine, FLIGHT_SECONDS, instead_of
            )
        except Unavailable:
            return None
        if leader is None:
            self._flight = (key, mine)
            self._prolonging = asyncio.create_task(self._prolong(key, mine))
        return leader

    async def _prolong(self, key: str, mine: Flight) -> None:
        while True:
            await asyncio.sleep(PROLONG_SECONDS)
            try:
                await self._work.flights.prolong(
                    self._asked.scope.tenant, key, mine, FLIGHT_SECONDS
                )
            except Unavailable as error:
                log.debug("claim to a model call not prolonged", reason=error.reason)

    async def _land(self, key: str, mine: Flight) -> None:
        try:
            await self._work.flights.release(self._asked.scope.tenant, key, mine)
        except Unavailable as error:
            log.debug("claim to a model call left to its end", reason=error.reason)

    async def _follow(self, leader: Flight) -> Completion | None:
        """Stream what another turn's model says; None if that turn was cut short or starts over.

        Raises:
            RecollectError: the model failed.
        """
        scope = Scope(self._asked.scope.tenant, leader.user_id)
        following = self._work.following.events(scope, leader.turn_id, 0)
        try:
            async with aclosing(following) as events:
                async for event in events:
                    match event.happening:
                        case Delta() | ToolUse() as piece:
                            self._emit(piece)
                            await self._run.room()
                        case Done(turn) if turn.reply is not None:
                            reason = turn.record.finish_reason or FinishReason.STOP
                            model = turn.record.model
                            return Completion(turn.reply.parts, reason, Usage(), model)
                        case Started() if self.said.started:
                            return None
                        case Interrupted():
                            return None
        except (Cancelled, DeadlineExceeded, NotFound, OutOfRange):
            return None
        return None

    async def _take_back(self, context: Context, found: LookupResult | None) -> None:
        """Begin the reply anew, in another attempt of the turn."""
        await self._start_over()
        self.said = PartialReply()
        self._emit_context(context)
        if found is not None:
            self._run.emit(_turn_cache(found))


def _newest_fact(context: Context) -> datetime | None:
    facts = (m.recorded_at for m in context.recalled if isinstance(m, Fact))
    return max(facts, default=None)


def _may_share(leader: Flight, context: Context) -> bool:
    """Whether a turn that began then knew everything that was recalled for this one."""
    newest = _newest_fact(context)
    return newest is None or newest <= leader.start_time


def _turn_cache(found: LookupResult) -> TurnCache:
    return TurnCache(
        tier=found.tier,
        entry_id=found.entry.entry_id if found.entry is not None else "",
        probability=found.probability,
        miss_reason=found.miss_reason,
    )
