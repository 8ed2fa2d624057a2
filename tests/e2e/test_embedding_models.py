"""Another embedding model: the server goes on while all is embedded anew, whatever happens."""

import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.harness import RunningServer, clean_environment, eventually
from tests.mocks.llm import MockLlm

from recollect import Recollect
from recollect.v1.common_pb2 import MEMORY_KIND_TURN

ITEMS = 1000
MINILM, OPENAI = "all-MiniLM-L6-v2", "openai:text-embedding-3-small"
NO_MATCH = [{"match": {"inputText": "~never~"}, "response": {"embedding": [1.0]}}]


class Place:
    """A database, and an API; servers come and go."""

    def __init__(self, folder: Path, api: MockLlm, stack: ExitStack) -> None:
        self.file = folder / "recollect.db"
        self._url = api.url
        self._stack = stack

    def serve(self, model: str, *flags: str) -> RunningServer:
        """Start a server that embeds by a model."""
        more = ["--embedder", "minilm"]
        if model == OPENAI:
            more = ["--embedder", "openai", "--openai-base-url", f"{self._url}/v1"]
        server = RunningServer(
            *("--database-url", f"sqlite:///{self.file}", *more, *flags),
            environment={"OPENAI_API_KEY": "test"},
        )
        return self._stack.enter_context(server)

    def models(self) -> dict[str, int]:
        """How many messages have a vector of which model and length."""
        with closing(sqlite3.connect(self.file)) as connection:
            rows = connection.execute(
                "SELECT model, LENGTH(vector), COUNT(*) FROM message_vectors GROUP BY 1, 2"
            ).fetchall()
        lengths = {MINILM: 2 * 384, OPENAI: 2 * 1536}
        assert all(length == lengths[model] for model, length, _ in rows)
        return {model: count for model, _, count in rows}


@pytest.fixture
def place(tmp_path: Path):
    with ExitStack() as stack:
        api = stack.enter_context(MockLlm(tmp_path, NO_MATCH))
        yield Place(tmp_path, api, stack)


def _fill(client: Recollect) -> int:
    """Store the items and wait for their vectors; return the revision that holds them."""
    client.memory.create_session(session_id="s")
    for start in range(0, ITEMS, 200):
        texts = [f"note {n} about harbour number{n}" for n in range(start, start + 200)]
        done = client.memory.append_messages("s", texts)
    client.memory.recall("harbour", min_revision=done.user_revision, timeout=120)
    return done.user_revision


def _check_recall(client: Recollect, revision: int) -> bool:
    """Recall one of the items by a word that only it has; return whether all was indexed."""
    found = client.memory.recall("number567", kinds=[MEMORY_KIND_TURN], top_k=3)
    assert found.hits[0].turn.parts[0].text == "note 567 about harbour number567"
    assert not found.degradations
    return found.indexed_revision >= revision


def _left(client: Recollect) -> int:
    backlog = client.admin.get_server_info().embedding_backlog
    return int(backlog.waiting + backlog.reembedding)


def _midway(client: Recollect, revision: int) -> int:
    """Recall until a part of the items is embedded anew; return how many are left."""

    def left() -> int:
        backlog = client.admin.get_server_info().embedding_backlog
        if backlog.waiting:
            _check_recall(client, revision)
        begun = not backlog.checking and backlog.reembedding < ITEMS - 50
        return backlog.reembedding if begun else 0

    return int(eventually(left, 60))


def _finish(client: Recollect, revision: int) -> None:
    """Wait for the last item; embedding has the lowest priority, but goes on."""
    while not _check_recall(client, revision):
        left = _left(client)
        eventually(lambda left=left: _check_recall(client, revision) or _left(client) < left, 120)
    backlog = client.admin.get_server_info().embedding_backlog
    assert (backlog.waiting, backlog.reembedding, backlog.checking) == (0, 0, False)
    assert not backlog.HasField("oldest_time")


def test_a_change_of_the_model_survives_a_kill_and_a_change_of_mind(place):
    former = place.serve(OPENAI)
    with former.client("ada") as client:
        revision = _fill(client)
        assert client.admin.get_server_info().embedding_model == OPENAI
    assert place.models() == {OPENAI: ITEMS}

    # The next server begins while the former one still answers.
    first = place.serve(MINILM)
    with first.client("ada") as client, former.client("ada") as before:
        assert client.admin.get_server_info().embedding_model == MINILM
        left = _midway(client, revision)
        _check_recall(before, revision)
    first.kill()
    former.kill()
    assert set(place.models()) == {MINILM, OPENAI}

    second = place.serve(MINILM)
    with second.client("ada") as client:
        assert client.admin.get_server_info().embedding_backlog.reembedding <= left
        _finish(client, revision)
    second.stop()
    assert place.models() == {MINILM: ITEMS}

    third = place.serve(OPENAI)
    with third.client("ada") as client:
        _midway(client, revision)
    third.kill()
    replaced = place.models()[OPENAI]
    fourth = place.serve(MINILM)
    with fourth.client("ada") as client:
        waiting = client.admin.get_server_info().embedding_backlog
        assert waiting.checking or waiting.waiting <= replaced
        _finish(client, revision)
    assert place.models() == {MINILM: ITEMS}


def test_an_outage_of_the_embedding_api_costs_no_attempt_and_recall_goes_by_words(tmp_path):
    api = MockLlm(tmp_path, NO_MATCH)
    flags = ("--embedder", "openai", "--openai-base-url", f"{api.url}/v1")
    with RunningServer(*flags, environment={"OPENAI_API_KEY": "test"}) as server:
        with server.client("ada") as client:
            client.memory.create_session(session_id="s")
            done = client.memory.append_messages("s", ["The museum opens at ten."])
            failed = eventually(lambda: [j for j in client.admin.list_jobs() if j.last_error], 60)
            assert [(job.kind, job.attempts) for job in failed] == [("embed", 0)]
            found = client.memory.recall("museum")
            assert found.hits
            assert found.degradations
            backlog = client.admin.get_server_info().embedding_backlog
            assert (backlog.waiting, backlog.reembedding) == (1, 0)
            assert backlog.oldest_time.ToMicroseconds() > 0
            with api:
                found = client.memory.recall("museum", min_revision=done.user_revision, timeout=60)
                assert not found.degradations
        assert "test" not in server.log


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--embedder", "openai"), "embedder openai needs OPENAI_API_KEY"),
        (("--embedder", "glove"), "embedder must be minilm"),
        (("--embedder", "openai:someone-elses", "--secrets-dir", "keys"), "not known"),
        (
            ("--embedder", "openai", "--secrets-dir", "empty"),
            "embedder openai needs OPENAI_API_KEY",
        ),
        (("--embedder", "sentence-transformers:/no/such/folder"), "sentence-transformers"),
    ],
)
def test_a_server_whose_embedder_cannot_work_says_so_in_one_line(flags, said, tmp_path):
    for name, key in (("keys", "key\n"), ("empty", "\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "OPENAI_API_KEY").write_text(key)
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "serve", "--listen", "127.0.0.1:0", *flags],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    # Other parts may have logged that they started.
    lines = [line for line in done.stderr.splitlines() if "[info " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("recollect: ")
    assert said in lines[0]
