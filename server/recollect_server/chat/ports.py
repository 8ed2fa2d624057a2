"""What chat needs from the outside."""

from collections.abc import AsyncGenerator
from typing import Protocol

from recollect_server.chat.model import BegunTurn, Completion, ModelEvent, TurnRecord, TurnState
from recollect_server.memory.model import Message, NewMessage
from recollect_server.memory.prompt import Prompt
from recollect_server.scope import RequestKey, Scope


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


class TurnStore(Protocol):
    """Turns and their replies: durable when a call returns."""

    async def begin_turn(
        self,
        scope: Scope,
        session_id: str,
        message: NewMessage,
        *,
        turn_id: str,
        model: str,
        request: RequestKey,
        lease_seconds: float,
    ) -> BegunTurn:
        """Append the user's message and create the turn, or return the turn of a repeated request.

        A repeated request whose turn is RUNNING with a lease that has passed takes it over as
        attempt 2, once; after that it stays INTERRUPTED.

        Args:
            lease_seconds: how long this process may run the turn.

        Raises:
            NotFound: SESSION_NOT_FOUND.
            FailedPrecondition: REQUEST_ID_REUSED.
            Aborted: TURN_IN_PROGRESS, the repeated request's turn still runs.
        """

    async def finish_turn(
        self, scope: Scope, turn: TurnRecord, reply: NewMessage | None, state: TurnState
    ) -> tuple[TurnRecord, Message | None]:
        """Append the reply, if any, and close the turn with `turn`'s usage, cost and tier."""

    async def get_turn(self, scope: Scope, turn_id: str) -> BegunTurn:
        """Return a turn with its messages. Raises `NotFound` with TURN_NOT_FOUND."""
