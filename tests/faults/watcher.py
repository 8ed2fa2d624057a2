"""A reader of everything that changes for one user, over any number of lost connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from tests.faults.connection import PATIENCE_SECONDS, RETRY_SECONDS, UNKNOWN, connected

from recollect import AsyncRecollect, errors
from recollect.v1 import memory_pb2 as pb


@dataclass(slots=True)
class Watcher:
    """Watches one user, again from its last token after each break.

    Attributes:
        by_client: the client library resumes what breaks off; else it is done here.
        changes: nanoseconds of `time.monotonic_ns` when it came, and the change.
        token: where to go on, "" before it has begun.
        breaks: how often the stream ended.
    """

    address: str
    user: str
    by_client: bool = False
    changes: list[tuple[int, pb.WatchResponse]] = field(default_factory=list)
    token: str = ""
    breaks: int = 0
    marks: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with connected(self.address, repeats=False) as (client, channel):
            while True:
                if self.by_client:
                    watched = client.memory.watch(user_id=self.user, resume_token=self.token)
                else:
                    watched = _stream(channel, self.user, self.token)
                try:
                    async for response in watched:
                        self.token = response.resume_token
                        if response.WhichOneof("subject"):
                            self.changes.append((time.monotonic_ns(), response))
                        self.came.set()
                except UNKNOWN:
                    pass
                self.breaks += 1
                await asyncio.sleep(RETRY_SECONDS)
                await channel.channel_ready()

    async def begin(self) -> None:
        """Return once it watches: what changes from now on must come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.token:
                await self._wait(PATIENCE_SECONDS)

    async def catch_up(self, client: AsyncRecollect) -> None:
        """Return once everything that changed before this call has come.

        Raises:
            TimeoutError: it has not within PATIENCE_SECONDS.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            mark = await self._mark(client)
            while not any(change.fact.text == mark for _, change in reversed(self.changes)):
                await self._wait(PATIENCE_SECONDS)

    async def _mark(self, client: AsyncRecollect) -> str:
        self.marks += 1
        mark = f"mark {self.marks}"
        while True:
            try:
                await client.memory.remember([mark], user_id=self.user)
            except errors.Unavailable:
                # What a killed store left behind; the mark may come twice, which does no harm.
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return mark

    async def _wait(self, seconds: float) -> None:
        self.came.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.came.wait()
        except TimeoutError:
            pass


async def _stream(
    channel: grpc.aio.Channel, user: str, token: str
) -> AsyncIterator[pb.WatchResponse]:
    """Watch until the stream ends, once."""
    watch = channel.unary_stream(
        "/recollect.v1.MemoryService/Watch",
        request_serializer=pb.WatchRequest.SerializeToString,
        response_deserializer=pb.WatchResponse.FromString,
    )
    call = watch(pb.WatchRequest(user_id=user, resume_token=token))
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise errors.from_call(error.code(), error.details() or "", {}) from None
    finally:
        call.cancel()


@asynccontextmanager
async def watching(watchers: Sequence[Watcher]) -> AsyncIterator[None]:
    """Let the watchers run meanwhile.

    Raises:
        BaseException: what a watcher failed with.
    """
    for watcher in watchers:
        # An event belongs to a loop, and a watcher may outlive one.
        watcher.came = asyncio.Event()
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if not isinstance(error, asyncio.CancelledError) and isinstance(error, BaseException):
            raise error
