"""Connections that are there to be a burden: idle ones, slow ones, half-open streams.

RECOLLECT_IDLE_CONNECTIONS is how many idle ones there are.
"""

import asyncio
import contextlib
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame
from tests.faults.connection import connected
from tests.fuzz.fuzzer import resident_mib
from tests.harness import RunningServer

from recollect import AsyncRecollect
from recollect.v1 import admin_pb2, memory_pb2

IDLE = int(os.environ.get("RECOLLECT_IDLE_CONNECTIONS", "1000"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame().serialize()
# The beginning of a call: its headers are announced, and never come to their end.
CALL = HeadersFrame(stream_id=1, data=b"\x83\x86").serialize()
WATCH = "/recollect.v1.MemoryService/Watch"
SLOW = 200
"""Connections or streams that are slow or half open."""

MOST_TIMES = 5.0
"""How many times longer calls may take than those of a server without a burden."""

TRIES = 5
"""How often calls are looked at again: the machine is busy now and then, a burden stays."""

MOST_KIB = 100
"""KiB that an idle connection may cost."""


@pytest.fixture(scope="module")
def alone() -> Iterator[RunningServer]:
    """A server of these tests' own."""
    with RunningServer("--log-level", "warning") as server:
        yield server


@pytest.fixture(scope="module")
def free() -> Iterator[RunningServer]:
    """A server that bears no burden."""
    with RunningServer("--log-level", "warning") as server:
        yield server


@contextlib.contextmanager
def few_files(most: int) -> Iterator[None]:
    """Let processes that are started meanwhile open few files, unless they ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """Let this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def _connected(
    address: str, number: int, first: bytes
) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Yield connections on which something was sent, and no more will be by itself."""
    host, _, port = address.rpartition(":")
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(number):
            _, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)
            writer.write(first)
            await writer.drain()
        yield writers
    finally:
        for writer in writers:
            writer.close()


async def _seconds(client: AsyncRecollect) -> float:
    """Return the median of what an append and a listing take."""
    session = (await client.memory.create_session(user_id="bob")).session_id
    took = []
    for number in range(21):
        started = time.perf_counter()
        await client.memory.append_messages(session, [f"text {number}"], user_id="bob")
        assert [m async for m in client.memory.list_messages(session, user_id="bob")]
        took.append(time.perf_counter() - started)
    return statistics.median(took)


async def _keeps_up(client: AsyncRecollect, free: AsyncRecollect) -> None:
    """Check that calls take about as long as those of a server without a burden."""
    ratios = []
    for _ in range(TRIES):
        ratios.append(await _seconds(client) / await _seconds(free))
        if ratios[-1] < MOST_TIMES:
            return
    raise AssertionError(f"calls took {ratios} times as long as without a burden")


async def _burdened(
    server: RunningServer,
    free: RunningServer,
    burden: Callable[[], contextlib.AbstractAsyncContextManager[object]],
) -> None:
    """Check that an old and a new connection's calls keep up under a burden, and after it."""
    async with connected(server.address) as (old, _), connected(free.address) as (other, _):
        async with burden(), connected(server.address) as (new, _):
            await _keeps_up(old, other)
            await _keeps_up(new, other)
        await _keeps_up(old, other)


async def test_idle_connections_cost_little_and_slow_nobody(
    free: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """More of them than the files that the server may open as it is started."""
    with contextlib.ExitStack() as stack:
        with few_files(512):
            # Without the model that work in the background would load meanwhile.
            server = stack.enter_context(RunningServer("--log-level", "warning", "--no-worker"))
        stack.enter_context(many_files())

        @contextlib.asynccontextmanager
        async def idle() -> AsyncIterator[None]:
            empty = resident_mib(server.pid)
            async with _connected(server.address, IDLE, PREFACE):
                yield
                each = (resident_mib(server.pid) - empty) * 1024 / IDLE
                with capsys.disabled():
                    print(f"\n{IDLE} idle connections, {each:.1f} KiB each", end="")
                assert each < MOST_KIB

        await _burdened(server, free, idle)


@pytest.mark.parametrize(
    "said",
    [PREFACE, PREFACE + CALL, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["preface", "call", "http"],
)
async def test_connections_that_say_a_byte_a_second_slow_nobody(
    alone: RunningServer, free: RunningServer, said: bytes
) -> None:
    @contextlib.asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        async with _connected(alone.address, SLOW, b"") as writers:
            dripping = asyncio.create_task(_drip(writers, said))
            yield
            dripping.cancel()

    await _burdened(alone, free, slow)


async def _drip(writers: list[asyncio.StreamWriter], said: bytes) -> None:
    for number in range(len(said)):
        for writer in writers:
            writer.write(said[number : number + 1])
        await asyncio.sleep(1)


HALF_OPEN = {
    "ImportUser": (
        "/recollect.v1.AdminService/ImportUser",
        admin_pb2.ImportUserRequest(user_id="half", record_json="{}").SerializeToString(),
    ),
    "reflection": ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"\x3a\x00"),
}


@pytest.mark.parametrize("method", HALF_OPEN)
async def test_streams_left_half_open_slow_nobody(
    alone: RunningServer, free: RunningServer, method: str
) -> None:
    path, first = HALF_OPEN[method]

    @contextlib.asynccontextmanager
    async def half_open() -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(alone.address) as channel:
            calls = [channel.stream_stream(path)() for _ in range(SLOW)]
            for call in calls:
                # A server that serves no such method has refused it by now.
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(first)
            yield
            for call in calls:
                call.cancel()

    await _burdened(alone, free, half_open)
    assert "Traceback" not in alone.log


async def test_watches_that_nobody_reads_slow_nobody(
    alone: RunningServer, free: RunningServer
) -> None:
    request = memory_pb2.WatchRequest(user_id="ada").SerializeToString()

    async def write(client: AsyncRecollect) -> None:
        session = (await client.memory.create_session(user_id="ada")).session_id
        while True:
            await client.memory.append_messages(session, ["seen by nobody"], user_id="ada")
            await asyncio.sleep(1)

    @contextlib.asynccontextmanager
    async def watched() -> AsyncIterator[None]:
        async with (
            grpc.aio.insecure_channel(alone.address) as channel,
            connected(alone.address) as (client, _),
        ):
            calls = [channel.unary_stream(WATCH)(request) for _ in range(SLOW)]
            for call in calls:
                await call.initial_metadata()
            writing = asyncio.create_task(write(client))
            yield
            assert not writing.done()
            writing.cancel()
            for call in calls:
                call.cancel()

    await _burdened(alone, free, watched)
    assert "Traceback" not in alone.log
