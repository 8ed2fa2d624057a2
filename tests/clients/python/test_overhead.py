"""The Python clients take hardly longer than their stubs given the same to send.

The server is a process of its own that answers at once, which a real one does not.
"""

import asyncio
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from recollect import AsyncRecollect, Recollect, assistant, user
from recollect.v1 import memory_pb2, memory_pb2_grpc

CALLS = 1000
WARM_UP = 100
MOST = 1.10
TRIES = 5
TIMEOUT = 30.0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    program = Path(__file__).with_name("silent_server.py")
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def messages() -> list[memory_pb2.NewMessage]:
    return [user("hello there"), assistant("hello to you")]


def appended() -> memory_pb2.AppendMessagesRequest:
    return memory_pb2.AppendMessagesRequest(
        user_id="ada", session_id="s", messages=messages(), request_id=str(uuid.uuid4())
    )


def ratio(address: str) -> float:
    by_client, by_stub = [], []
    with Recollect(address, user_id="ada") as client, grpc.insecure_channel(address) as channel:
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        for _ in range(WARM_UP + CALLS):
            began = time.perf_counter()
            client.memory.append_messages("s", messages())
            between = time.perf_counter()
            stub.AppendMessages(appended(), timeout=TIMEOUT)
            by_stub.append(time.perf_counter() - between)
            by_client.append(between - began)
    return statistics.median(by_client[WARM_UP:]) / statistics.median(by_stub[WARM_UP:])


async def awaited_ratio(address: str) -> float:
    by_client, by_stub = [], []
    async with (
        AsyncRecollect(address, user_id="ada") as client,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        for _ in range(WARM_UP + CALLS):
            began = time.perf_counter()
            await client.memory.append_messages("s", messages())
            between = time.perf_counter()
            await stub.AppendMessages(appended(), timeout=TIMEOUT)
            by_stub.append(time.perf_counter() - between)
            by_client.append(between - began)
    return statistics.median(by_client[WARM_UP:]) / statistics.median(by_stub[WARM_UP:])


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_client_takes_hardly_longer_than_its_stub(address, kind):
    # Another's load may fall on one side; a layer that is slow is slow each time.
    found = []
    while len(found) < TRIES and (not found or min(found) > MOST):
        found.append(ratio(address) if kind == "sync" else asyncio.run(awaited_ratio(address)))
        print(f"{kind} client/stub {found[-1]:.3f}")
    assert min(found) <= MOST
