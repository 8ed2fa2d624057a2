"""ChatService: check, call the domain, convert."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from google.protobuf.descriptor import ServiceDescriptor

from recollect.v1 import chat_pb2 as pb
from recollect_server.chat.service import Chat
from recollect_server.chat.work import TurnRequest
from recollect_server.rpc.call import Call
from recollect_server.rpc.convert import chat as convert
from recollect_server.rpc.convert.memory import to_new_message
from recollect_server.rpc.idempotency import request_key_or_new


class ChatServicer:
    """Serves recollect.v1.ChatService."""

    service: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["ChatService"]

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def chat(self, call: Call, request: pb.ChatRequest) -> pb.ChatResponse:
        """Serve Chat."""
        turn = await self._chat.run(_asked(call, request, "Chat"))
        return pb.ChatResponse(turn=convert.from_turn(turn, request.user_id))

    async def stream_chat(
        self, call: Call, request: pb.StreamChatRequest
    ) -> AsyncIterator[pb.StreamChatResponse]:
        """Serve StreamChat."""
        asked = _asked(call, request, "StreamChat")
        async with aclosing(self._chat.stream(asked)) as events:
            async for event in events:
                response = pb.StreamChatResponse()
                convert.fill_event(response.event, event, request.user_id)
                yield response

    async def resume_chat(
        self, call: Call, request: pb.ResumeChatRequest
    ) -> AsyncIterator[pb.ResumeChatResponse]:
        """Serve ResumeChat."""
        resumed = self._chat.resume(
            call.scope, request.turn_id, request.after_sequence, request.attempt
        )
        async with aclosing(resumed) as events:
            async for event in events:
                response = pb.ResumeChatResponse()
                convert.fill_event(response.event, event, request.user_id)
                yield response

    async def cancel_turn(self, call: Call, request: pb.CancelTurnRequest) -> pb.CancelTurnResponse:
        """Serve CancelTurn."""
        turn = await self._chat.cancel_turn(call.scope, request.turn_id)
        return pb.CancelTurnResponse(turn=convert.from_turn(turn, request.user_id))

    async def get_turn(self, call: Call, request: pb.GetTurnRequest) -> pb.GetTurnResponse:
        """Serve GetTurn."""
        turn = await self._chat.get_turn(call.scope, request.turn_id)
        return pb.GetTurnResponse(turn=convert.from_turn(turn, request.user_id))


def _asked(call: Call, request: pb.ChatRequest | pb.StreamChatRequest, method: str) -> TurnRequest:
    return TurnRequest(
        scope=call.scope,
        session_id=request.session_id,
        message=to_new_message(request.message),
        options=convert.to_options(request.options),
        request=request_key_or_new(method, request),
        caller=call.caller,
    )
