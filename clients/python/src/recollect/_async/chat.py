"""ChatService."""

import time
from collections.abc import AsyncIterator

from recollect._async.transport import AsyncTransport
from recollect._messages import MessageLike, as_message, new_request_id
from recollect._settings import CHAT_TIMEOUT, MOST_TRIES, reconnect_pauses, unavailable
from recollect.errors import RecollectError
from recollect.v1 import chat_pb2 as pb

LOST = ("", "SHUTTING_DOWN")
"""Reasons of an error that says nothing of the turn: the connection broke, or the server ends."""


class AsyncChat:
    """Chat with memory and cache. Every method takes `user_id` (default: the client's) and
    `timeout` in seconds, and raises `recollect.errors`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._user = transport.settings.user

    async def send(
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
        response = await self._transport.unary(
            "ChatService/Chat", request, pb.ChatResponse, timeout
        )
        return response.turn

    async def stream(
        self,
        session_id: str,
        message: MessageLike,
        *,
        options: pb.ChatOptions | None = None,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = CHAT_TIMEOUT,
    ) -> AsyncIterator[pb.ChatEvent]:
        """Send a message and yield what happens; the last event is `done` or `interrupted`.

        Where the connection breaks the turn is taken up again, on whichever server answers, without
        gap or repeat. A second `started` means that the reply starts over. `timeout` is for all of
        it.
        """
        request = pb.StreamChatRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            message=as_message(message),
            options=options,
            request_id=request_id or new_request_id(),
        )
        resume = pb.ResumeChatRequest(user_id=request.user_id)
        ends = None if timeout is None else time.monotonic() + timeout
        pauses = reconnect_pauses()
        tries = 0
        while True:
            left = None if ends is None else ends - time.monotonic()
            try:
                if resume.turn_id:
                    resumed = self._transport.stream(
                        "ChatService/ResumeChat", resume, pb.ResumeChatResponse, left
                    )
                    async for again in resumed:
                        tries = 0
                        _note(resume, again.event)
                        yield again.event
                else:
                    responses = self._transport.stream(
                        "ChatService/StreamChat", request, pb.StreamChatResponse, left
                    )
                    async for response in responses:
                        _note(resume, response.event)
                        yield response.event
                return
            except RecollectError as error:
                tries += 1
                pause = next(pauses)
                late = ends is not None and time.monotonic() + pause >= ends
                given_up = tries == MOST_TRIES or not resume.turn_id
                lost = unavailable(error) and error.reason in LOST
                if not lost or late or given_up:
                    raise
            await self._transport.pause(pause)

    async def resume(
        self,
        turn_id: str,
        *,
        after_sequence: int = 0,
        attempt: int = 0,
        user_id: str | None = None,
        timeout: float | None = CHAT_TIMEOUT,
    ) -> AsyncIterator[pb.ChatEvent]:
        """Yield the events of a turn after the last one seen, from whichever server runs it.

        Args:
            attempt: the attempt of that event; 0 for the present one.
        """
        request = pb.ResumeChatRequest(
            user_id=self._user(user_id),
            turn_id=turn_id,
            after_sequence=after_sequence,
            attempt=attempt,
        )
        responses = self._transport.stream(
            "ChatService/ResumeChat", request, pb.ResumeChatResponse, timeout
        )
        async for response in responses:
            yield response.event

    async def get_turn(
        self, turn_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Turn:
        """Return a turn."""
        request = pb.GetTurnRequest(user_id=self._user(user_id), turn_id=turn_id)
        response = await self._transport.unary(
            "ChatService/GetTurn", request, pb.GetTurnResponse, timeout
        )
        return response.turn

    async def cancel_turn(
        self, turn_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Turn:
        """End a running turn; what was said is kept."""
        request = pb.CancelTurnRequest(user_id=self._user(user_id), turn_id=turn_id)
        response = await self._transport.unary(
            "ChatService/CancelTurn", request, pb.CancelTurnResponse, timeout
        )
        return response.turn


def _note(resume: pb.ResumeChatRequest, event: pb.ChatEvent) -> None:
    """Keep where a stream is, to go on there."""
    resume.after_sequence = event.sequence
    if event.HasField("started"):
        resume.turn_id, resume.attempt = event.started.turn_id, event.started.attempt
