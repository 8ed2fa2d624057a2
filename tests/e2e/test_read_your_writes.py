"""A recall that waits for a revision is answered within its deadline, whoever embeds."""

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.test_worker import Worker
from tests.harness import RunningServer

from recollect import errors
from recollect.v1.common_pb2 import MEMORY_KIND_TURN

TURNS = [MEMORY_KIND_TURN]
OTHERS = 12
DEADLINE = 45.0


@pytest.fixture
def apart(tmp_path: Path):
    """Two servers on one file that embed nothing, and a worker that does."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(RunningServer("--no-worker", "--database-url", url))
            for _ in range(2)
        )
        worker = Worker(url, tmp_path)
        stack.callback(worker.close)
        yield one, other, worker


def _backlog(server: RunningServer) -> None:
    """Leave texts of other users to be embedded."""
    for number in range(OTHERS):
        with server.client(f"other {number}") as client:
            client.memory.create_session(session_id="s")
            client.memory.append_messages("s", [f"Line {n} of a log. " * 20 for n in range(60)])


def test_a_waiting_recall_overtakes_the_backlog_of_others_in_another_process(apart):
    one, other, worker = apart
    _backlog(one)
    worker.start()
    with one.client("ada") as writer, other.client("ada") as reader:
        writer.memory.create_session(session_id="s")
        done = writer.memory.append_messages("s", ["The ferry leaves at noon."])
        found = reader.memory.recall(
            "boat departure", kinds=TURNS, min_revision=done.user_revision, timeout=DEADLINE
        )
        assert found.indexed_revision >= done.user_revision
        assert found.hits[0].turn.parts[0].text == "The ferry leaves at noon."
        # The others' texts had been there before.
        assert writer.admin.get_server_info().embedding_backlog.waiting > 0


def test_a_waiting_recall_is_answered_while_a_server_is_busy():
    with RunningServer() as server:
        _backlog(server)
        over = threading.Event()

        def load() -> None:
            with server.client("load") as client:
                while not over.is_set():
                    client.memory.list_sessions(page_size=1)

        callers = [threading.Thread(target=load) for _ in range(4)]
        for caller in callers:
            caller.start()
        try:
            with server.client("ada") as client:
                client.memory.create_session(session_id="s")
                done = client.memory.append_messages("s", ["The ferry leaves at noon."])
                found = client.memory.recall(
                    "boat", min_revision=done.user_revision, timeout=DEADLINE
                )
                assert found.hits
                assert client.admin.get_server_info().embedding_backlog.waiting > 0
        finally:
            over.set()
            for caller in callers:
                caller.join()


def test_without_anybody_who_embeds_the_deadline_is_kept(apart):
    one, other, _ = apart
    with one.client("ada") as writer, other.client("ada") as reader:
        done = writer.memory.remember(["The ferry leaves at noon."])
        with pytest.raises(errors.DeadlineExceeded):
            reader.memory.recall("boat", min_revision=done.user_revision, timeout=1.0)
        assert reader.memory.recall("ferry").hits
