"""What a turn is asked to do, and what happens in it."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import IntEnum

from msgspec import Struct

from recollect_server.cache.model import CacheScope, CacheTier, MissReason
from recollect_server.chat.model import BegunTurn, Delta, ToolUse, TurnRecord
from recollect_server.memory.context import ContextItem, ContextOptions
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
class ChatDefaults:
    """What the turns of a tenant start from; what a turn says itself wins."""

    model: str = ""
    system: str = ""
    parameters: ModelParameters = field(default_factory=ModelParameters)

    def under(self, options: ChatOptions) -> ChatOptions:
        """Return a turn's options with these where it says nothing."""
        ours, asked = self.parameters, options.parameters
        return replace(
            options,
            model=options.model or self.model,
            system=options.system or self.system,
            parameters=ModelParameters(
                ours.temperature if asked.temperature is None else asked.temperature,
                ours.max_tokens if asked.max_tokens is None else asked.max_tokens,
                asked.stop or ours.stop,
            ),
        )


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
    """The user's message is durable. Where it is not the first event, the reply starts over."""

    turn_id: str
    attempt: int
    user_message: Message


@dataclass(frozen=True, slots=True)
class ContextMade:
    """The context is made; see `memory.context.Context`."""

    items: tuple[ContextItem, ...]
    token_count: int
    cache_down: bool
    words_only: bool


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The turn's server died; `turn` has what was streamed."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Done:
    """The reply is durable."""

    turn: Turn


Happening = Started | ContextMade | TurnCache | Delta | ToolUse | Usage | Interrupted | Done


class ChatEvent(Struct, frozen=True, gc=False):
    """Something that happened in a turn; `sequence` counts from 1 without gaps, anew in each
    attempt."""

    sequence: int
    happening: Happening
