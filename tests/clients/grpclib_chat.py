"""A program of someone else: grpclib, and the stubs that its own plugin makes from `proto/`.

    python grpclib_chat.py ADDRESS AUTHORITY_FILE KEY

prints one object of JSON. It runs where `recollect` is what the plugin made, not the client.
"""

import asyncio
import json
import ssl
import sys

from google.rpc import error_details_pb2
from grpclib.client import Channel
from grpclib.exceptions import GRPCError

from recollect.v1 import chat_grpc, chat_pb2, common_pb2, memory_grpc, memory_pb2


async def main(address: str, authority: str, key: str) -> None:
    host, _, port = address.rpartition(":")
    tls = ssl.create_default_context(cafile=authority)
    tls.set_alpn_protocols(["h2"])
    said = {"authorization": f"Bearer {key}"}
    async with Channel(host, int(port), ssl=tls) as channel:
        memory = memory_grpc.MemoryServiceStub(channel)
        create = memory_pb2.CreateSessionRequest(user_id="ada", title="Travel")
        session = (await memory.CreateSession(create, metadata=said)).session
        message = memory_pb2.NewMessage(
            role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text="Say something.")]
        )
        turn = chat_pb2.StreamChatRequest(
            user_id="ada", session_id=session.session_id, message=message
        )
        kinds = []
        async with chat_grpc.ChatServiceStub(channel).StreamChat.open(metadata=said) as stream:
            await stream.send_message(turn, end=True)
            async for response in stream:
                kinds.append(response.event.WhichOneof("kind"))
        try:
            missing = memory_pb2.GetSessionRequest(user_id="ada", session_id="missing")
            await memory.GetSession(missing, metadata=said)
        except GRPCError as error:
            (info,) = (d for d in error.details if isinstance(d, error_details_pb2.ErrorInfo))
            failed = {"status": error.status.name, "reason": info.reason}
    print(json.dumps({"title": session.title, "kinds": kinds, "failed": failed}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
