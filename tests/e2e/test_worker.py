"""Background work by a process of its own, on each database, and when that process dies."""

import subprocess
import sys
from contextlib import ExitStack

import pytest
from tests.e2e.deployments import database_url
from tests.harness import RunningServer, clean_environment, eventually

from recollect.v1.common_pb2 import MEMORY_KIND_EPISODE, MEMORY_KIND_TURN


class Worker:
    """`recollect worker` on a database."""

    def __init__(self, url: str, folder) -> None:
        self._ready = folder / "worker-ready"
        self._log = folder / "worker-log"
        self._command = [
            *(sys.executable, "-m", "recollect_server", "worker"),
            *("--database-url", url, "--data-dir", str(folder / "worker")),
            *("--ready-file", str(self._ready)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        environment = clean_environment(RECOLLECT_EPISODE_IDLE_SECONDS="1")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
        eventually(self._ready.exists, 60)

    def end(self, *, kill: bool) -> int:
        assert self._process is not None
        (self._process.kill if kill else self._process.terminate)()
        return self._process.wait(30)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(kill=True)


@pytest.fixture(params=["sqlite", "postgres"])
def apart(request, tmp_path, postgres):
    """A server that does no background work, and a worker that is not started yet."""
    url = database_url(request.param, tmp_path, postgres)
    with ExitStack() as stack:
        server = stack.enter_context(RunningServer("--no-worker", "--database-url", url))
        worker = Worker(url, tmp_path)
        stack.callback(worker.close)
        yield server, worker


def test_a_worker_makes_vectors_summaries_and_episodes_of_what_a_server_stores(apart):
    server, worker = apart
    with server.client("ada") as client:
        client.memory.create_session(session_id="s")
        texts = [f"Sentence {n} about the old harbour." for n in range(13)]
        done = client.memory.append_messages("s", texts)
        assert client.memory.recall("harbour").indexed_revision < done.user_revision
        assert {job.kind for job in client.admin.list_jobs()} == {"embed", "summarize"}
        worker.start()
        turns = [MEMORY_KIND_TURN]
        found = client.memory.recall("port", kinds=turns, min_revision=done.user_revision)
        assert found.hits
        eventually(lambda: client.memory.get_session("s").summary.through_sequence == 7)
        eventually(lambda: [*client.memory.list_episodes()], 30)
        eventually(lambda: client.memory.recall("port", kinds=[MEMORY_KIND_EPISODE]).hits)
        eventually(lambda: not [*client.admin.list_jobs()])
        assert worker.end(kill=False) == 0


def test_a_worker_that_is_killed_is_made_good_by_the_next(apart):
    server, worker = apart
    with server.client("ada") as client:
        for number in range(4):
            client.memory.create_session(session_id=f"s{number}")
            texts = [f"Sentence {n} about harbour {number}. " * 20 for n in range(40)]
            last = client.memory.append_messages(f"s{number}", texts).user_revision
        worker.start()
        worker.end(kill=True)
        worker.start()
        client.memory.recall("port", min_revision=last, timeout=90)
        for number in range(4):
            summary = eventually(lambda n=number: client.memory.get_session(f"s{n}").summary, 60)
            assert summary.through_sequence <= 34
        eventually(lambda: len([*client.memory.list_episodes()]) == 4, 60)
        eventually(lambda: not [*client.admin.list_jobs()], 60)
        assert all(
            client.memory.get_session(f"s{n}").summary.through_sequence == 34 for n in range(4)
        )
