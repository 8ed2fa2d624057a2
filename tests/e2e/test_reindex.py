"""Moving the index between stores while the server works."""

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.harness import RunningServer, clean_environment, eventually, unique
from tests.stores.vectors.setups import chroma_server

from recollect import errors

CITIES = ("Lisbon", "Porto", "Madrid", "Paris", "Rome", "Vienna", "Prague", "Oslo", "Riga", "Bern")


def _reindex(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", "reindex", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )


class Traffic:
    """Writes facts and recalls each as soon as it was written, until it is told to stop.

    Attributes:
        wrong: recalls that did not find what they had to, or found what was forgotten.
    """

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._user = unique("mover")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.wrong: list[str] = []
        self.checked = 0

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._server.client(self._user) as client:
            while not self._stop.is_set():
                number = self.checked
                text = f"Trip {number} goes to {CITIES[number % len(CITIES)]}"
                stored = client.memory.remember([text])
                found = client.memory.recall(
                    text, top_k=3, min_revision=stored.user_revision, timeout=20
                )
                fact_id = stored.facts[0].fact_id
                if found.degradations or fact_id not in [hit.fact.fact_id for hit in found.hits]:
                    self.wrong.append(f"not found: {text} {found.degradations}")
                if number % 2:
                    client.memory.forget_fact(fact_id)
                    again = client.memory.recall(text, top_k=10)
                    if fact_id in [hit.fact.fact_id for hit in again.hits]:
                        self.wrong.append(f"found after it was forgotten: {text}")
                self.checked += 1


def test_the_index_moves_under_traffic_without_a_wrong_answer(tmp_path: Path):
    with chroma_server(tmp_path) as url, RunningServer() as server:
        assert server.index().kind == "exact"
        with Traffic(server) as traffic:
            eventually(lambda: traffic.checked > 5)
            for target, kind in ((url, "chroma"), ("exact:", "exact"), (url, "chroma")):
                done = _reindex("--to", target, "--target", server.address)
                assert done.returncode == 0, done.stderr
                eventually(lambda kind=kind: server.index().kind == kind)
                before = traffic.checked
                eventually(lambda before=before: traffic.checked > before + 5, 60)
            assert server.index().available
        assert traffic.wrong == []
        server.stop()
        server.start()
        assert server.index().kind == "chroma"


def test_a_target_that_is_none_is_refused(server: RunningServer):
    with server.client() as client:
        for target in ("redis://localhost", "chroma+http://", "chroma+http://u:p@h", "pgvector:"):
            with pytest.raises(errors.InvalidArgument) as refused:
                client.admin.reindex(target=target)
            assert "target" in refused.value.message
        with pytest.raises(errors.Unavailable):
            client.admin.reindex(target="chroma+http://127.0.0.1:1")
        with pytest.raises(errors.InvalidArgument):
            client.admin.reindex()
        assert list(client.admin.list_jobs()) == []


def test_while_chroma_is_down_words_rank_and_nothing_is_lost(tmp_path: Path):
    with ExitStack() as stack:
        # Ended in the middle, and started again on the same port and folder.
        chroma = ExitStack()
        stack.push(chroma)
        url = chroma.enter_context(chroma_server(tmp_path))
        chosen = {"CHROMADB_URL": url.removeprefix("chroma+")}
        server = stack.enter_context(RunningServer(environment=chosen))
        eventually(lambda: server.index().kind == "chroma")
        client = stack.enter_context(server.client(unique("many"), timeout=60))
        # More than the index would rank without asking Chroma.
        for start in range(0, 600, 100):
            texts = [f"Parcel {n} went to {CITIES[n % 10]}" for n in range(start, start + 100)]
            stored = client.memory.remember(texts)
        found = client.memory.recall(
            "Where did parcel 42 go?", top_k=1, min_revision=stored.user_revision
        )
        assert not found.degradations
        assert found.hits[0].fact.text == "Parcel 42 went to Madrid"
        chroma.close()
        assert not server.index().available
        late = client.memory.remember(["Parcel 999 went to Reykjavik"])
        found = client.memory.recall("parcel to Reykjavik", top_k=1)
        assert found.degradations
        assert found.hits[0].fact.text == "Parcel 999 went to Reykjavik"
        stack.enter_context(chroma_server(tmp_path, int(url.rpartition(":")[2])))
        found = client.memory.recall(
            "parcel to Reykjavik", top_k=1, min_revision=late.user_revision
        )
        assert not found.degradations
        assert found.hits[0].fact.text == "Parcel 999 went to Reykjavik"
