"""What a turn is asked to do, what happens in it, and the running turn that readers follow."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum

from recollect_server.cache.model import CacheScope, CacheTier, MissReason
from recollect_server.chat.model import BegunTurn, Delta, ToolUse, TurnRecord
from recollect_server.memory.context import Context, ContextOptions
from recollect_server.memory.model import Message
from recollect_server.memory.prompt import ModelParameters, Tool, Usage

DEFAULT_TURN_TIMEOUT = timedelta(minutes=5)


class CacheMode(IntEnum):
    """How a turn uses the answer cache; values equal `recollect.v1.CacheMode`."""

    READ_WRITE = 1
    REFRESH = 2
    OFF = 3


@dataclass(frozen=True, slots=True)
class TurnCacheOptions:
    """How a turn uses the answer cache."""

    mode: CacheMode = CacheMode.READ_WRITE
    scope: CacheScope = CacheScope.USER
    ttl: timedelta = timedelta(minutes=30)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How a turn is run; an empty model means the provider's default."""

    model: str = ""
    system: str = ""
    parameters: ModelParameters = field(default_factory=ModelParameters)
    tools: tuple[Tool, ...] = ()
    context: ContextOptions = field(default_factory=ContextOptions)
    cache: TurnCacheOptions = field(default_factory=TurnCacheOptions)
    cancel_on_disconnect: bool = False
    abort_if_busy: bool = False
    timeout: timedelta = DEFAULT_TURN_TIMEOUT


@dataclass(frozen=True, slots=True)
class TurnCache:
    """What the answer cache did in a turn; see `recollect.v1.TurnCache`."""

    tier: CacheTier | None = None
    entry_id: str = ""
    probability: float = 0.0
    miss_reason: MissReason | None = None


@dataclass(slots=True)
class Timings:
    """Where a turn's time went, in seconds; zero for what did not happen."""

    first_token: float = 0.0
    context: float = 0.0
    cache: float = 0.0
    model_first_token: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn with its messages.

    Attributes:
        reply: None until it is stored.
        timings: None in a replay.
    """

    record: TurnRecord
    user_message: Message
    reply: Message | None
    cache: TurnCache
    timings: Timings | None


def replayed(begun: BegunTurn) -> Turn:
    """Return a turn as it is kept; what the cache weighed and the timings are not."""
    record = begun.turn
    cache = TurnCache(
        tier=record.cache_tier,
        entry_id=record.cache_entry_id,
        probability=0.0 if record.cache_tier is None else 1.0,
    )
    return Turn(record, begun.user_message, begun.reply, cache, None)


@dataclass(frozen=True, slots=True)
class Started:
    """The user's message is durable."""

    turn_id: str
    attempt: int
    user_message: Message


@dataclass(frozen=True, slots=True)
class Done:
    """The reply is durable."""

    turn: Turn


Happening = Started | Context | TurnCache | Delta | ToolUse | Usage | Done


@dataclass(frozen=True, slots=True)
class ChatEvent:
    """Something that happened in a turn; `sequence` counts from 1 without gaps."""

    sequence: int
    happening: Happening


class RunningTurn:
    """The events of one turn, written by its task and read by any number of streams."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.task: asyncio.Task[None] | None = None
        self._events: list[ChatEvent] = []
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()

    def emit(self, happening: Happening) -> None:
        """Add an event."""
        self._events.append(ChatEvent(len(self._events) + 1, happening))
        self._changed.set()

    def end(self, error: BaseException | None = None) -> None:
        """No more events come; readers get `error` after the last one."""
        self._ended = True
        self._error = error
        self._changed.set()

    async def events(self) -> AsyncGenerator[ChatEvent]:
        """Yield every event from the first one on, as it comes.

        Raises:
            RecollectError: what ended the turn, if it failed.
        """
        position = 0
        while True:
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self._ended:
                break
            changed = self._changed
            await changed.wait()
            if changed is self._changed:
                self._changed = asyncio.Event()
        if self._error is not None:
            raise self._error
