"""The clients' watch against a server that breaks off on demand; both clients by one suite."""

import asyncio
from contextlib import aclosing, closing
from itertools import islice

import grpc
import pytest

from recollect import AsyncRecollect, Recollect, errors
from recollect.v1 import memory_pb2, memory_pb2_grpc


class Memory(memory_pb2_grpc.MemoryServiceServicer):
    """Streams changes 1, 2, 3, ... after the token, and breaks off as it is told.

    Without a token it first says where it begins, as change 0.

    Attributes:
        breaks: for each call in turn, how many changes it gives, -1 for not even where it begins,
            and how it ends.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.breaks: list[tuple[int, grpc.StatusCode]] = []

    async def Watch(self, request, context):
        self.asked.append(request.resume_token)
        most, code = self.breaks.pop(0) if self.breaks else (10**9, grpc.StatusCode.OK)
        if most >= 0 and not request.resume_token:
            yield memory_pb2.WatchResponse(resume_token="0")
        number = int(request.resume_token or 0)
        for _ in range(most):
            number += 1
            yield memory_pb2.WatchResponse(resume_token=str(number), user_revision=number)
        await context.abort(code, "broke off")


class Peer:
    """The server, and a watch by either client."""

    def __init__(self, kind: str) -> None:
        self.memory = Memory()
        self.server = grpc.aio.server()
        memory_pb2_grpc.add_MemoryServiceServicer_to_server(self.memory, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self._kind = kind

    async def watch(self, most: int, **more) -> list[int]:
        if self._kind == "async":
            async with AsyncRecollect(self.address, user_id="ada") as client:
                seen = []
                async with aclosing(client.memory.watch(**more)) as changes:
                    async for change in changes:
                        seen.append(change.user_revision)
                        if len(seen) == most:
                            break
                return seen

        def call() -> list[int]:
            with (
                Recollect(self.address, user_id="ada") as client,
                closing(client.memory.watch(**more)) as changes,
            ):
                return [change.user_revision for change in islice(changes, most)]

        return await asyncio.to_thread(call)


@pytest.fixture(params=["sync", "async"])
async def peer(request):
    made = Peer(request.param)
    await made.server.start()
    yield made
    await made.server.stop(None)


async def test_a_watch_goes_on_with_the_last_token_after_each_break(peer):
    peer.memory.breaks = [(count, grpc.StatusCode.UNAVAILABLE) for count in (3, 0, 0, 2)]
    assert await peer.watch(9) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert peer.memory.asked == ["", "3", "3", "3", "5"]


async def test_a_watch_that_broke_before_its_first_change_goes_on_where_it_began(peer):
    peer.memory.breaks = [(0, grpc.StatusCode.UNAVAILABLE)]
    assert await peer.watch(3) == [0, 1, 2]
    assert peer.memory.asked == ["", "0"]


async def test_a_watch_that_never_began_is_refused(peer):
    peer.memory.breaks = [(-1, grpc.StatusCode.UNAVAILABLE)] * 99
    with pytest.raises(errors.Unavailable):
        await peer.watch(1)


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (grpc.StatusCode.OUT_OF_RANGE, errors.OutOfRange),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.INTERNAL, errors.Internal),
    ],
)
async def test_any_other_error_ends_the_watch(peer, code, raised):
    peer.memory.breaks = [(2, grpc.StatusCode.UNAVAILABLE), (1, code)]
    with pytest.raises(raised):
        await peer.watch(9)
    assert peer.memory.asked == ["", "2"]


async def test_the_timeout_of_a_watch_is_for_all_its_tries(peer):
    peer.memory.breaks = [(0, grpc.StatusCode.UNAVAILABLE)] * 999
    with pytest.raises(errors.DeadlineExceeded):
        await peer.watch(1, resume_token="5", timeout=0.5)
    assert set(peer.memory.asked) == {"5"}
