"""What was acknowledged is there, however the server ended."""

import asyncio
import random
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.harness import RunningServer, alive, children, eventually

from recollect import errors

WRITERS = 8
APPENDS = 200


def _write(server: RunningServer, name: str, acknowledged: list[str], count: int) -> None:
    with server.client("ada", timeout=5) as client:
        for number in range(count):
            text = f"{name}-{number}"
            try:
                client.memory.append_messages("s", [text], timeout=5)
            except errors.RecollectError:
                return
            acknowledged.append(text)


def _listed(server: RunningServer) -> list[tuple[int, str]]:
    with server.client("ada") as client:
        return [(m.sequence, m.parts[0].text) for m in client.memory.list_messages("s")]


@pytest.mark.parametrize("round_", range(3))
def test_kill_9_during_appends_loses_nothing_acknowledged(round_):
    with RunningServer() as server:
        with server.client("ada") as client:
            client.memory.create_session(session_id="s")
        valkey = children(server.pid)
        acknowledged: list[list[str]] = [[] for _ in range(WRITERS)]
        threads = [
            threading.Thread(
                target=_write, args=(server, str(n), acknowledged[n], APPENDS // WRITERS)
            )
            for n in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        kill_at = random.randint(1, APPENDS // 2)
        eventually(lambda: sum(map(len, acknowledged)) >= kill_at)
        server.kill()
        for thread in threads:
            thread.join()
        eventually(lambda: not any(map(alive, valkey)))
        server.start()
        listed = _listed(server)
        texts = [text for _, text in listed]
        assert [sequence for sequence, _ in listed] == list(range(1, len(listed) + 1))
        assert len(set(texts)) == len(texts)
        for mine in acknowledged:
            assert [t for t in texts if t in set(mine)] == mine
        with server.client("ada") as client:
            client.memory.append_messages("s", ["a xylophone"])
            assert client.memory.recall("xylophone", top_k=1).hits


async def test_sigterm_finishes_running_calls_and_reports_not_serving():
    with RunningServer() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="recollect.v1.MemoryService")
            watch = health.Watch(request)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            async with server.async_client("ada") as client:
                await client.memory.create_session(session_id="s")
                slow = asyncio.create_task(
                    client.memory.recall("x", min_revision=10**9, timeout=2.0)
                )
                await asyncio.sleep(0.2)
                stopped = asyncio.create_task(asyncio.to_thread(server.stop))
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
                with pytest.raises(errors.DeadlineExceeded):
                    await slow
            watch.cancel()
        assert await stopped == 0


def test_a_stopped_server_leaves_no_process_and_starts_again_with_its_data():
    with RunningServer() as server:
        with server.client("ada") as client:
            client.memory.create_session(session_id="s")
            client.memory.append_messages("s", ["kept"])
        valkey = children(server.pid)
        assert server.stop() == 0
        assert not any(map(alive, valkey))
        server.start()
        assert _listed(server) == [(1, "kept")]
