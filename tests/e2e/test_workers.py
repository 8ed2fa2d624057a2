"""Several server processes behind one port: kept running, and replaced without a failed call."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.deployments import database_url
from tests.harness import RunningServer, alive, children, clean_environment, eventually
from tests.mocks.llm import free_port
from tests.observability.collector import Scrape

from recollect import Recollect, errors
from recollect.v1 import memory_pb2, memory_pb2_grpc

WORKERS = 2
START_SECONDS = 60.0 * WORKERS
CALLERS = 4


def _servers(server: RunningServer) -> set[int]:
    """Return the process ids of the server processes."""
    return {
        pid
        for pid in children(server.pid)
        if b"recollect_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


@pytest.fixture(params=["sqlite", "postgres"])
def server(request, tmp_path, postgres) -> Iterator[RunningServer]:
    url = database_url(request.param, tmp_path, postgres)
    with RunningServer(
        *("--workers", str(WORKERS), "--database-url", url, "--grace-seconds", "10"),
        start_seconds=START_SECONDS,
    ) as running:
        yield running


class Load:
    """Callers with the client's own retries, what was acknowledged, and what failed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ended = threading.Event()
        self.sent: dict[str, list[str]] = {f"user-{n}": [] for n in range(CALLERS)}
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._call, args=(user,)) for user in self.sent]

    def _call(self, user: str) -> None:
        try:
            while not self._ended.is_set():
                # New connections as well as old ones meet processes that come and go.
                with Recollect(self._address, user_id=user) as client:
                    for _ in range(20):
                        text = f"Message {len(self.sent[user])}."
                        client.memory.append_messages("s", [text])
                        self.sent[user].append(text)
                        client.memory.get_context("s")
        except errors.RecollectError as error:
            self.failed.append(error)

    def calls(self) -> int:
        return sum(map(len, self.sent.values()))

    def __enter__(self) -> "Load":
        for user in self.sent:
            with Recollect(self._address, user_id=user) as client:
                client.memory.create_session(session_id="s")
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.calls() > 20, 60)
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Check that no call failed, and that what was acknowledged is there once, in order."""
        assert self.failed == []
        for user, texts in self.sent.items():
            with Recollect(self._address, user_id=user) as client:
                found = [m.parts[0].text for m in client.memory.list_messages("s")]
            assert found == texts


def test_all_processes_are_replaced_under_load_without_a_failed_call(server):
    before = _servers(server)
    assert len(before) == WORKERS
    with Load(server.address) as load:
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "rolling restart done" in server.log, 120)
        during = load.calls()
        eventually(lambda: load.calls() > during + 20, 60)
    after = _servers(server)
    assert len(after) == WORKERS
    assert not before & after
    load.check()
    assert server.stop() == 0
    assert not any(map(alive, before | after))


def test_a_process_that_is_killed_is_started_again_and_loses_nothing(server):
    with Load(server.address) as load:
        victim = min(_servers(server))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: "a server process ended" in server.log, 30)
        eventually(lambda: len(_servers(server) - {victim}) == WORKERS, 60)
        during = load.calls()
        eventually(lambda: load.calls() > during + 20, 60)
    load.check()


def test_health_does_not_say_serving_before_the_processes_serve():
    address, heard = f"127.0.0.1:{free_port()}", []
    soon = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]

    def watch() -> None:
        with grpc.insecure_channel(address, options=soon) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            for answer in health.Watch(request, timeout=START_SECONDS, wait_for_ready=True):
                heard.append(answer.status)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    flags = ("--workers", str(WORKERS), "--health-listen", address)
    with RunningServer(*flags, start_seconds=START_SECONDS):
        watcher.join(START_SECONDS)
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    assert heard == [not_serving, serving]


def test_health_metrics_and_background_work_of_all_processes():
    health, metrics = f"127.0.0.1:{free_port()}", free_port()
    with RunningServer(
        *("--workers", str(WORKERS), "--health-listen", health),
        *("--metrics-listen", f"127.0.0.1:{metrics}", "--log-format", "json"),
        start_seconds=START_SECONDS,
    ) as server:
        lines = [json.loads(line) for line in server.log.splitlines()]
        serving = [line["pid"] for line in lines if line["event"] == "serving"]
        assert set(serving) == {*_servers(server), server.pid}
        method = "recollect.v1.MemoryService/ListSessions"

        def served() -> list[float]:
            """Call on a connection of its own, and return how many calls each process had."""
            own = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.address, options=own) as channel:
                request = memory_pb2.ListSessionsRequest(user_id="ada")
                memory_pb2_grpc.MemoryServiceStub(channel).ListSessions(request)
            scraped = [Scrape(f"127.0.0.1:{metrics + n}") for n in range(WORKERS)]
            return [s.value("recollect_rpc_duration_seconds_count", method=method) for s in scraped]

        eventually(lambda: all(served()), 60)
        with server.client("ada") as client:
            last = client.memory.remember(["I live in Lisbon."])
            found = client.memory.recall("home", min_revision=last.user_revision)
            assert found.hits
        with grpc.insecure_channel(health) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        embedded = [
            Scrape(f"127.0.0.1:{metrics + n}").value(
                "recollect_embedded_texts_total", purpose="stored"
            )
            for n in range(WORKERS)
        ]
        assert sorted(count > 0 for count in embedded) == [False, True]


def test_processes_know_of_each_other_when_calls_keep_one_busy():
    with RunningServer("--workers", str(WORKERS), start_seconds=START_SECONDS) as server:
        mapped = [
            {
                line.split()[-1]
                for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
                if line.endswith("/activity")
            }
            for pid in _servers(server)
        ]
        shared = set().union(*mapped)
        assert len(shared) == 1
        assert mapped == [shared] * WORKERS


def test_a_parent_that_is_killed_leaves_no_process_behind():
    with RunningServer("--workers", str(WORKERS), start_seconds=START_SECONDS) as server:
        below = children(server.pid)
        assert len(below) == WORKERS + 1
        server.kill()
        eventually(lambda: not any(map(alive, below)))


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--listen", "unix:/tmp/x"), "HOST:PORT"),
        (("--chromadb-url", "folder"), "workers must be 1"),
    ],
)
def test_what_processes_cannot_share_is_refused(flags, text, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "serve", "--workers", "2", *flags],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert text in done.stderr


@pytest.mark.parametrize("flag", ["--listen", "--health-listen"])
def test_a_port_in_use_is_named(flag, tmp_path):
    with RunningServer() as other:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "recollect_server", "serve", "--workers", "2"),
                *("--listen", "127.0.0.1:0", flag, other.address, "--data-dir", str(tmp_path)),
            ],
            capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"recollect: cannot listen on {other.address}")
