"""What chat needs from the outside."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from recollect_server.chat.model import (
    BegunTurn,
    Completion,
    ModelEvent,
    TurnRecord,
    TurnStart,
    TurnState,
)
from recollect_server.chat.turn import ChatEvent
from recollect_server.errors import RecollectError
from recollect_server.memory.model import Message, NewMessage
from recollect_server.memory.prompt import Prompt
from recollect_server.scope import Scope


class ChatModel(Protocol):
    """A provider of chat models."""

    @property
    def name(self) -> str:
        """The provider's name: `anthropic`, `openai` or `offline`."""

    @property
    def default_model(self) -> str:
        """The model used when a request names none."""

    def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Stream the reply; the last event is a `Completion`.

        Retries happen before the first event only. Closing the iterator ends the model call.

        Raises:
            Unavailable: MODEL_UNAVAILABLE or MODEL_OVERLOADED.
            ResourceExhausted: MODEL_RATE_LIMITED with retry_after in seconds.
            FailedPrecondition: MODEL_CREDENTIAL (the server's key is refused), MODEL_REFUSED.
            InvalidArgument: CONTEXT_TOO_LONG or MODEL_REJECTED.
        """

    def cost_usd(self, completion: Completion) -> float:
        """Price of a completion in US dollars, 0 where unknown."""

    async def close(self) -> None:
        """Release connections."""


@dataclass(frozen=True, slots=True)
class TurnView:
    """A turn as a follower finds it.

    Attributes:
        process: where it runs, or ran last.
        events: of its attempt, after the one asked for, as far as they are stored.
        last_event: sequence of the attempt's last event before its end; 0 while it runs.
        error: what made it fail, None if it did not or the cause was a defect.
    """

    begun: BegunTurn
    process: str
    events: tuple[ChatEvent, ...]
    last_event: int
    error: RecollectError | None


@dataclass(frozen=True, slots=True)
class HeldTurn:
    """A turn that a process runs, with its events since it was last kept."""

    turn_id: str
    attempt: int
    events: tuple[ChatEvent, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of keeping turns; those in neither set are as they should be.

    Attributes:
        lost: ended, taken over or deleted by others: they must not be run on.
        cancelled: somebody wants them to end.
    """

    lost: frozenset[str]
    cancelled: frozenset[str]


class TurnStore(Protocol):
    """Turns and their replies: durable when a call returns.

    A running turn belongs to a process until its lease ends. Every write names the attempt, and
    does nothing where the turn is not running in that attempt any more.
    """

    async def begin_turn(
        self, scope: Scope, session_id: str, message: NewMessage, start: TurnStart
    ) -> BegunTurn | None:
        """Append the user's message and create the turn, or return the turn of a repeated request.

        A repeated request takes over a turn that failed, and once one that was interrupted. A turn
        of another request whose lease has ended becomes INTERRUPTED.

        Returns:
            None if the turn has to wait for others of its session; ask again soon to keep its
            place among those that wait.

        Raises:
            NotFound: SESSION_NOT_FOUND.
            FailedPrecondition: REQUEST_ID_REUSED.
            Aborted: TURN_IN_PROGRESS, the session is busy and `start.wait` is false.
        """

    async def leave_queue(self, scope: Scope, session_id: str, turn_id: str) -> None:
        """Give up a turn's place among those that wait."""

    async def finish_turn(
        self,
        scope: Scope,
        turn: TurnRecord,
        reply: NewMessage | None,
        state: TurnState,
        *,
        events: tuple[ChatEvent, ...] = (),
        error: RecollectError | None = None,
    ) -> tuple[TurnRecord, Message | None]:
        """Append the reply, if any, and close the turn with `turn`'s usage, cost and tier.

        The reply of an INTERRUPTED turn is kept with the turn and not appended.

        Args:
            events: those that were not kept before.

        Returns:
            The turn and its reply; as others left them if the attempt was given up.
        """

    async def start_over(self, scope: Scope, turn: TurnRecord) -> TurnRecord:
        """Begin another attempt of a turn that this process runs, and return it.

        Raises:
            Aborted: TURN_IN_PROGRESS, the attempt was given up.
        """

    async def keep_turns(
        self, process: str, turns: Sequence[HeldTurn], lease_seconds: float
    ) -> Kept:
        """Prolong the leases of a process's turns and store their new events."""

    async def interrupt_lapsed(self) -> int:
        """Make running turns whose lease has ended INTERRUPTED; return how many there were."""

    async def prune_events(self) -> int:
        """Remove events of turns that ended more than 10 minutes ago; return how many rows."""

    async def request_cancel(self, scope: Scope, turn_id: str) -> TurnView:
        """Note that a running turn is to end. Raises `NotFound` with TURN_NOT_FOUND."""

    async def get_turn(self, scope: Scope, turn_id: str) -> BegunTurn:
        """Return a turn with its messages. Raises `NotFound` with TURN_NOT_FOUND."""

    async def view_turn(self, scope: Scope, turn_id: str, after: int) -> TurnView:
        """Return a turn with its stored events after a sequence.

        Raises:
            NotFound: TURN_NOT_FOUND.
            OutOfRange: RESUME_TOKEN_EXPIRED, its events are no longer kept.
        """


@dataclass(frozen=True, slots=True)
class Follow:
    """Send `process` the events of an attempt after a sequence, for some seconds."""

    turn_id: str
    process: str
    attempt: int
    after: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Look into the store: somebody wants the turn to end."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class News:
    """Events of an attempt; without any, it has ended and the store says how."""

    turn_id: str
    attempt: int
    events: tuple[ChatEvent, ...]


RelayMessage = Follow | Cancel | News


class Relay(Protocol):
    """Messages between server processes. They may be lost: the store has it all, a little later.

    Attributes:
        process: this process's name, unlike any other's.
    """

    process: str

    def send(self, to: str, message: RelayMessage) -> None:
        """Send to a process; it does not wait."""

    def receive(self, handler: Callable[[RelayMessage], None]) -> None:
        """Give messages for this process to `handler` from now on."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A model call that others may share.

    Attributes:
        turn_id: the turn that makes it, of `user_id`.
        start_time: when the turn began.
    """

    user_id: str
    turn_id: str
    start_time: datetime


class Flights(Protocol):
    """Claims to model calls, in Valkey or Redis.

    Every method raises `Unavailable` when the server cannot be reached in time.
    """

    async def claim(
        self, tenant: str, key: str, mine: Flight, seconds: float, instead_of: Flight | None
    ) -> Flight | None:
        """Claim a call for some seconds; return the one that is claimed already, None if none was.

        Args:
            key: what those have in common that may share the call.
            instead_of: a claim that counts no more.
        """

    async def prolong(self, tenant: str, key: str, mine: Flight, seconds: float) -> None:
        """Keep a claim that is still there for some more seconds."""

    async def release(self, tenant: str, key: str, mine: Flight) -> None:
        """Give a claim up, if it is still there."""
