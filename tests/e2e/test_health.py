"""The address for probes: plain text beside TLS and keys, of a server and of a worker."""

import asyncio
import socket
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.certificates import write_localhost
from tests.harness import RunningServer, clean_environment, eventually
from tests.mocks.llm import free_port

from recollect import errors

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _health(target: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", "health", "--target", target, *more],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )


async def _status(channel: grpc.aio.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    response = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    return response.status


def test_the_command_tells_a_serving_server_from_none():
    address = f"127.0.0.1:{free_port()}"
    with RunningServer("--health-listen", address, "--auth", "api-key") as server:
        for target in (address, server.address):
            done = _health(target)
            assert (done.returncode, done.stdout) == (0, "SERVING\n")
        assert _health(address, "--service", "recollect.v1.ChatService").returncode == 0
        unknown = _health(address, "--service", "recollect.v1.NoService")
        assert (unknown.returncode, unknown.stderr) == (1, f"recollect: {address}: NOT_FOUND\n")
        server.stop()
        gone = _health(address)
        assert (gone.returncode, gone.stderr) == (1, f"recollect: {address}: UNAVAILABLE\n")


def test_the_command_asks_a_server_of_tls_without_a_key(tmp_path):
    certificate, key, authority = write_localhost(tmp_path)
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key), "--auth", "api-key")
    with RunningServer(*tls) as server:
        done = _health(server.address, "--tls-ca", str(authority))
        assert (done.returncode, done.stdout) == (0, "SERVING\n")
        plain = _health(server.address)
        assert (plain.returncode, plain.stderr.split()[-1]) == (1, "UNAVAILABLE")


async def test_nothing_but_health_is_served_there():
    address = f"127.0.0.1:{free_port()}"
    with RunningServer("--health-listen", address):
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary("/recollect.v1.AdminService/GetServerInfo")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_draining_server_is_alive_and_does_not_serve():
    address = f"127.0.0.1:{free_port()}"
    with RunningServer("--health-listen", address) as server:
        async with (
            grpc.aio.insecure_channel(address) as channel,
            server.async_client("ada") as client,
        ):
            await client.memory.create_session(session_id="s")
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            # It waits for a revision that does not come.
            slow = asyncio.create_task(client.memory.recall("x", min_revision=10**9, timeout=8))
            await asyncio.sleep(0.5)
            stopped = asyncio.create_task(asyncio.to_thread(server.stop))
            assert (await watch.read()).status == NOT_SERVING
            assert await _status(channel, "") == NOT_SERVING
            assert await _status(channel, "alive") == SERVING
            with pytest.raises(errors.DeadlineExceeded):
                await slow
            watch.cancel()
        assert await stopped == 0


def test_a_worker_says_that_it_works(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "recollect_server", "worker", "--data-dir", str(tmp_path)]
    command += ["--health-listen", address]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environment())
    try:
        eventually(lambda: _health(address).returncode == 0, 60)
        worker.terminate()
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
        assert worker.stderr is not None
        worker.stderr.close()


def test_an_address_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "recollect_server", "serve", "--listen", "127.0.0.1:0"]
        command += ["--health-listen", address, "--data-dir", str(tmp_path)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=clean_environment(),
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert address in done.stderr
