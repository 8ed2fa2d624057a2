# Written by scripts/unasync.py from _async/chat.py; do not edit.
"""ChatService."""

from collections.abc import Iterator

from recollect._sync.transport import Transport
from recollect._messages import MessageLike, as_message, new_request_id
from recollect._settings import CHAT_TIMEOUT, RESUME_SECONDS, Tries
from recollect.errors import RecollectError
from recollect.v1 import chat_pb2 as pb

LOST = ("", "SHUTTING_DOWN")
"""Reasons of an error that says nothing of the turn: the connection broke, or the server ends."""


class Chat:
    """Chat with memory and cache. Every method takes `user_id` (default: the client's) and
    `timeout` in seconds, and raises `recollect.errors`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._user = transport.settings.user

    def send(
        self,
        session_id: str,
        message: MessageLike,
        *,
        options: pb.ChatOptions | None = None,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float = CHAT_TIMEOUT,
    ) -> pb.Turn:
        """Send a message and return the turn with its reply."""
        request = pb.ChatRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            message=as_message(message),
            options=options,
            request_id=request_id or new_request_id(),
        )
        response = self._transport.unary(
            "ChatService/Chat", request, pb.ChatResponse, timeout
        )
        return response.turn

    def stream(
        self,
        session_id: str,
        message: MessageLike,
        *,
        options: pb.ChatOptions | None = None,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = CHAT_TIMEOUT,
    ) -> Iterator[pb.ChatEvent]:
        """Send a message and yield what happens; the last event is `done` or `interrupted`.

        Where the connection breaks the turn is taken up again, on whichever server answers, without
        gap or repeat, as long as `timeout` allows, which is for all of it; with None for a minute
        without an event. A second `started` means that the reply starts over.
        """
        request = pb.StreamChatRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            message=as_message(message),
            options=options,
            request_id=request_id or new_request_id(),
        )
        resume = pb.ResumeChatRequest(user_id=request.user_id)
        return self._follow(request, resume, timeout)

    def resume(
        self,
        turn_id: str,
        *,
        after_sequence: int = 0,
        attempt: int = 0,
        user_id: str | None = None,
        timeout: float | None = CHAT_TIMEOUT,
    ) -> Iterator[pb.ChatEvent]:
        """Yield the events of a turn after the last one seen, as `stream` does.

        Args:
            attempt: the attempt of that event; 0 for the present one.
        """
        request = pb.ResumeChatRequest(
            user_id=self._user(user_id),
            turn_id=turn_id,
            after_sequence=after_sequence,
            attempt=attempt,
        )
        return self._follow(None, request, timeout)

    def get_turn(
        self, turn_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Turn:
        """Return a turn."""
        request = pb.GetTurnRequest(user_id=self._user(user_id), turn_id=turn_id)
        response = self._transport.unary(
            "ChatService/GetTurn", request, pb.GetTurnResponse, timeout
        )
        return response.turn

    def cancel_turn(
        self, turn_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Turn:
        """End a running turn; what was said is kept."""
        request = pb.CancelTurnRequest(user_id=self._user(user_id), turn_id=turn_id)
        response = self._transport.unary(
            "ChatService/CancelTurn", request, pb.CancelTurnResponse, timeout
        )
        return response.turn

    def _follow(
        self,
        request: pb.StreamChatRequest | None,
        resume: pb.ResumeChatRequest,
        timeout: float | None,
    ) -> Iterator[pb.ChatEvent]:
        """Yield the events of a turn; where a stream broke, those after the last one seen.

        Args:
            request: begins the turn, again until its first event came; None if it runs.
        """
        tries = Tries(timeout)
        while True:
            begun = False
            try:
                for event in self._events(request, resume, tries.left):
                    begun = True
                    tries.reset()
                    if event.HasField("started"):
                        resume.turn_id = event.started.turn_id
                        resume.attempt = event.started.attempt
                    resume.after_sequence = event.sequence
                    yield event
                return
            except RecollectError as error:
                lost = error.reason in LOST and bool(resume.turn_id)
                if begun and not lost:
                    raise
                pause = tries.pause_after(error, RESUME_SECONDS if lost else None)
            self._transport.pause(pause)

    def _events(
        self,
        request: pb.StreamChatRequest | None,
        resume: pb.ResumeChatRequest,
        timeout: float | None,
    ) -> Iterator[pb.ChatEvent]:
        if request is not None and not resume.turn_id:
            responses = self._transport.stream(
                "ChatService/StreamChat", request, pb.StreamChatResponse, timeout, once=True
            )
            for response in responses:
                yield response.event
        else:
            resumed = self._transport.stream(
                "ChatService/ResumeChat", resume, pb.ResumeChatResponse, timeout, once=True
            )
            for again in resumed:
                yield again.event
