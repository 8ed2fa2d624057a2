"""The client of the load: raw stubs of the contract, and what measurements prepare with them."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import grpc

from recollect._settings import Settings
from recollect.v1 import (
    admin_pb2_grpc,
    cache_pb2_grpc,
    chat_pb2_grpc,
    common_pb2,
    memory_pb2,
    memory_pb2_grpc,
)

CALL_SECONDS = 120.0
INDEX_SECONDS = 900.0
MARKS = "marks"
"""Session that `Backlog` appends to."""

CHANNEL_OPTIONS: list[tuple[str, Any]] = [("grpc.max_receive_message_length", -1)]


def open_channel(server: Settings) -> grpc.aio.Channel:
    """Return a channel to a server, encrypted as its settings say."""
    if server.credentials is None:
        return grpc.aio.insecure_channel(server.address, CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(server.address, server.credentials, CHANNEL_OPTIONS)


class LoadError(RuntimeError):
    """A call succeeded but its response is not what was to be measured; the message says how."""


class Connection:
    """Stubs on one channel; every method raises `grpc.aio.AioRpcError`.

    Args:
        metadata: what every call carries: credentials.

    Attributes:
        options: what every measured call is given: credentials and a deadline.
    """

    def __init__(
        self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.memory = memory_pb2_grpc.MemoryServiceStub(channel)
        self.cache = cache_pb2_grpc.CacheServiceStub(channel)
        self.chat = chat_pb2_grpc.ChatServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.options: dict[str, Any] = {
            "metadata": metadata,
            "timeout": CALL_SECONDS,
        }

    async def create_session(self, user: str, session: str, window_size: int = 0) -> None:
        """Create a session; `window_size` is in messages, 0 means the server's default."""
        request = memory_pb2.CreateSessionRequest(
            user_id=user, session_id=session, window_size=window_size
        )
        await self.memory.CreateSession(request, **self.options)

    async def append(self, user: str, session: str, texts: Sequence[str]) -> int:
        """Append messages in one call and return the user's revision that holds them."""
        request = append_request(user, session, texts)
        response = await self.memory.AppendMessages(request, **self.options)
        return response.user_revision

    async def wait_indexed(self, user: str, revision: int) -> None:
        """Wait, up to 15 minutes, until everything up to a revision can be found by meaning."""
        request = memory_pb2.RecallRequest(
            user_id=user, query="ready?", top_k=1, min_revision=revision
        )
        await self.memory.Recall(request, **(self.options | {"timeout": INDEX_SECONDS}))


class Backlog:
    """Texts that a measurement left to be embedded, and the wait until none is left.

    Args:
        users: whose measured calls write.
    """

    def __init__(self, connection: Connection, users: Sequence[str]) -> None:
        self._connection = connection
        self._users = users

    async def open(self) -> None:
        """Create what `drain` needs. Call it once, before the first `drain`."""
        await asyncio.gather(*(self._connection.create_session(u, MARKS) for u in self._users))

    async def drain(self) -> None:
        """Wait until what the users wrote so far is embedded."""
        # Not every write answers with the user's revision; that of a later one includes it.
        await asyncio.gather(*map(self._drain, self._users))

    async def _drain(self, user: str) -> None:
        revision = await self._connection.append(user, MARKS, ["A mark."])
        await self._connection.wait_indexed(user, revision)


def append_request(
    user: str, session: str, texts: Sequence[str]
) -> memory_pb2.AppendMessagesRequest:
    """Return a request with an id of its own that appends these texts, user and model in turn."""
    roles = (common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT)
    return memory_pb2.AppendMessagesRequest(
        user_id=user,
        session_id=session,
        messages=[
            memory_pb2.NewMessage(
                role=roles[position % 2], parts=[common_pb2.ContentPart(text=text)]
            )
            for position, text in enumerate(texts)
        ],
        request_id=str(uuid.uuid4()),
    )


def context_request(user: str, session: str) -> memory_pb2.GetContextRequest:
    """Return a request for the recent window of a session."""
    return memory_pb2.GetContextRequest(
        user_id=user,
        session_id=session,
        options=memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_BUFFER),
    )
