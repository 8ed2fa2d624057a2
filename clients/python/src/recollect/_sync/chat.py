# Written by scripts/unasync.py from _async/chat.py; do not edit.
"""ChatService."""

import time
from collections.abc import Iterator

from recollect._sync.transport import Transport
from recollect._messages import MessageLike, as_message, new_request_id
from recollect._settings import CHAT_TIMEOUT, MOST_TRIES, reconnect_pauses
from recollect.errors import Unavailable
from recollect.v1 import chat_pb2 as pb


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
        """Send a message and yield what happens; the last event is `done`.

        When the connection breaks, the events go on after the last one seen, without gap or repeat.
        `timeout` is for all of it.
        """
        request = pb.StreamChatRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            message=as_message(message),
            options=options,
            request_id=request_id or new_request_id(),
        )
        for event in self._follow(request, timeout):
            yield event

    def resume(
        self,
        turn_id: str,
        *,
        after_sequence: int = 0,
        user_id: str | None = None,
        timeout: float | None = CHAT_TIMEOUT,
    ) -> Iterator[pb.ChatEvent]:
        """Yield the events of a turn after the last one seen, as `stream` does."""
        request = pb.ResumeChatRequest(
            user_id=self._user(user_id), turn_id=turn_id, after_sequence=after_sequence
        )
        for event in self._follow(request, timeout):
            yield event

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
        self, request: pb.StreamChatRequest | pb.ResumeChatRequest, timeout: float | None
    ) -> Iterator[pb.ChatEvent]:
        """Yield the events of a turn. A stream that breaks is begun again while the turn is not
        known, with the same request id, and resumed after the last event seen once it is."""
        if isinstance(request, pb.ResumeChatRequest):
            seen = request
        else:
            seen = pb.ResumeChatRequest(user_id=request.user_id)
        ends = None if timeout is None else time.monotonic() + timeout
        pauses = reconnect_pauses()
        tries = 0
        while True:
            tries += 1
            left = None if ends is None else ends - time.monotonic()
            try:
                for event in self._events(seen if seen.turn_id else request, left):
                    if event.HasField("started"):
                        seen.turn_id = event.started.turn_id
                    seen.after_sequence = event.sequence
                    pauses, tries = reconnect_pauses(), 0
                    yield event
                return
            except Unavailable as error:
                pause = next(pauses)
                late = ends is not None and time.monotonic() + pause >= ends
                if late or tries == MOST_TRIES or not error.connection_lost:
                    raise
            self._transport.pause(pause)

    def _events(
        self, request: pb.StreamChatRequest | pb.ResumeChatRequest, timeout: float | None
    ) -> Iterator[pb.ChatEvent]:
        if isinstance(request, pb.StreamChatRequest):
            for begun in self._transport.stream(
                "ChatService/StreamChat", request, pb.StreamChatResponse, timeout
            ):
                yield begun.event
        else:
            for resumed in self._transport.stream(
                "ChatService/ResumeChat", request, pb.ResumeChatResponse, timeout
            ):
                yield resumed.event
