"""The nouns of chat: what a model streams, and a turn.

What a reply has hundreds of is a `Struct`, made in a fifth of a dataclass's time, which the garbage
collector need not look at: it holds nothing that could hold it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from msgspec import Struct

from recollect_server.cache.model import CacheTier
from recollect_server.memory.model import Message, Part
from recollect_server.memory.prompt import Usage
from recollect_server.scope import RequestKey

MAX_INTERRUPTED_ATTEMPTS = 2
"""How often an interrupted turn is run in all."""


class FinishReason(IntEnum):
    """Why a reply ended; values equal `recollect.v1.FinishReason`."""

    STOP = 1
    MAX_TOKENS = 2
    TOOL_USE = 3
    REFUSAL = 4


class BlockKind(IntEnum):
    """What a delta adds to."""

    TEXT = 1
    THINKING = 2
    TOOL_INPUT = 3


class Delta(Struct, frozen=True, gc=False):
    """A piece of one block of the reply; `block` counts blocks from 0."""

    block: int
    kind: BlockKind
    text: str


class ToolUse(Struct, frozen=True, gc=False):
    """The model starts a tool call in block `block`; its input follows as TOOL_INPUT deltas."""

    block: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a model's stream: the whole reply, once, last.

    Attributes:
        model: the model that answered, as the provider names it.
    """

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    usage: Usage
    model: str


ModelEvent = Delta | ToolUse | Completion


class TurnState(IntEnum):
    """Where a turn is; values equal `recollect.v1.TurnState`."""

    RUNNING = 1
    DONE = 2
    FAILED = 3
    CANCELLED = 4
    INTERRUPTED = 5


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn as SQL keeps it.

    Attributes:
        user_sequence: sequence of the user's message in the session.
        reply_sequence: sequence of the reply, 0 until it is stored.
        attempt: 1, and one more whenever the turn is run again. Every write of a turn names it,
            so that an attempt that was given up changes nothing any more.
        cache_tier: None if a model answered.
        cost_usd: money spent on the model call, 0 for a hit.
    """

    turn_id: str
    session_id: str
    request_id: str
    state: TurnState
    attempt: int
    user_sequence: int
    reply_sequence: int
    model: str
    finish_reason: FinishReason | None
    usage: Usage
    cost_usd: float
    cache_tier: CacheTier | None
    cache_entry_id: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class BegunTurn:
    """A turn that this call has to run, or that it finds as another one left or runs it.

    Attributes:
        fresh: this call began the turn, or took it over, and runs it.
        reply: the stored reply of a done or cancelled turn; of an interrupted one what was
            streamed, which is no message of the session and has neither id nor sequence.
    """

    turn: TurnRecord
    user_message: Message
    fresh: bool
    reply: Message | None


@dataclass(frozen=True, slots=True)
class TurnStart:
    """Who wants to run a turn.

    Attributes:
        turn_id: of the turn, if the request is new. Ids rise, so it is also its place in the
            queue of turns that wait for others of their session.
        process: where it would run.
        wait: queue while another turn of the session runs; else that is an error.
    """

    turn_id: str
    model: str
    request: RequestKey
    process: str
    lease_seconds: float
    wait: bool
