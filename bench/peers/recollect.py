"""This server, embedded, as it comes: SQLite with every write on disk before it is acknowledged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import grpc
from bench.peers.work import EXCHANGES, FACTS, TOP_K, WINDOW

from recollect.v1 import common_pb2, memory_pb2
from recollect_server.bench.connection import CHANNEL_OPTIONS, Connection, context_request
from recollect_server.bench.embedded import server_in
from recollect_server.bench.texts import Texts

READ = "read"


class RecollectPeer:
    """See `Peer`."""

    def __init__(self, channel: grpc.aio.Channel, pid: int) -> None:
        self.name = f"recollect {version('recollect-server')}"
        self.pids = [pid]
        self._connection = Connection(channel)
        self._stored: dict[int, int] = {}

    async def prepare(self, callers: int, texts: Texts) -> None:
        """See `Peer`."""
        for caller in range(callers):
            user = _user(caller)
            await self._connection.create_session(user, READ)
            messages = [texts.message() for _ in range(WINDOW)]
            await self._connection.append(user, READ, messages)
            request = memory_pb2.RememberRequest(
                user_id=user,
                facts=[memory_pb2.NewFact(text=f"{texts.sentence()} {n}") for n in range(FACTS)],
            )
            done = await self._connection.memory.Remember(request, **self._connection.options)
            await self._connection.wait_indexed(user, done.user_revision)

    async def store(self, caller: int, exchange: tuple[str, str]) -> None:
        """See `Peer`."""
        count = self._stored[caller] = self._stored.get(caller, -1) + 1
        session = f"stored-{count // EXCHANGES}"
        if count % EXCHANGES == 0:
            await self._connection.create_session(_user(caller), session)
        await self._connection.append(_user(caller), session, exchange)

    async def read(self, caller: int) -> None:
        """See `Peer`."""
        request = context_request(_user(caller), READ)
        response = await self._connection.memory.GetContext(request, **self._connection.options)
        assert len(response.messages) == WINDOW

    async def add_fact(self, caller: int, text: str) -> None:
        """See `Peer`."""
        request = memory_pb2.RememberRequest(
            user_id=_user(caller), facts=[memory_pb2.NewFact(text=text)]
        )
        await self._connection.memory.Remember(request, **self._connection.options)

    async def search(self, caller: int, query: str) -> None:
        """See `Peer`."""
        request = memory_pb2.RecallRequest(
            user_id=_user(caller), query=query, top_k=TOP_K, kinds=[common_pb2.MEMORY_KIND_FACT]
        )
        response = await self._connection.memory.Recall(request, **self._connection.options)
        assert len(response.hits) == TOP_K


def _user(caller: int) -> str:
    return f"user-{caller}"


@asynccontextmanager
async def recollect(folder: Path) -> AsyncIterator[RecollectPeer]:
    """Start the server in a folder and connect to it."""
    with server_in(folder) as server:
        async with grpc.aio.insecure_channel(server.address, CHANNEL_OPTIONS) as channel:
            yield RecollectPeer(channel, server.pid)
