"""Chroma and its data are lost: recall goes on by words, and Chroma is filled again from SQL."""

import shutil
from pathlib import Path

from tests.faults.deployment import Worker
from tests.harness import RunningServer, eventually, unique
from tests.soak.stack import Chroma

from recollect import Recollect
from recollect.v1 import memory_pb2

MANY = 600
"""More than are ranked without asking Chroma."""

CITIES = ("Lisbon", "Porto", "Madrid", "Paris", "Rome", "Vienna", "Prague", "Oslo", "Riga", "Bern")
SECONDS = 120.0


def _found(client: Recollect) -> memory_pb2.RecallResponse | None:
    """Ask for a fact with none of its words."""
    found = client.memory.recall("Which animal does she own?", top_k=3, timeout=SECONDS)
    texts = [hit.fact.text for hit in found.hits]
    return found if "Has a red cat called Kim" in texts and not found.degradations else None


def test_chroma_is_filled_again_and_asked_again_by_a_server_that_does_not_feed_it(tmp_path: Path):
    chroma = Chroma(tmp_path / "chroma")
    chroma.start()
    try:
        environment = {"CHROMADB_URL": chroma.url.removeprefix("chroma+")}
        with RunningServer("--no-worker", environment=environment) as server:
            worker = Worker(server.data_dir, environment)
            try:
                worker.start()
                eventually(lambda: server.index().kind == "chroma", SECONDS)
                _lose(chroma, server)
                assert worker.stop() == 0
            finally:
                if worker.process is not None and worker.process.poll() is None:
                    worker.kill()
                shutil.rmtree(worker.folder)
    finally:
        chroma.stop()


def _lose(chroma: Chroma, server: RunningServer) -> None:
    with server.client(unique("many"), timeout=60) as client:
        client.memory.remember(["Has a red cat called Kim"])
        for start in range(0, MANY, 100):
            texts = [f"Parcel {n} went to {CITIES[n % 10]}" for n in range(start, start + 100)]
            stored = client.memory.remember(texts)
        client.memory.recall("parcel", min_revision=stored.user_revision, timeout=SECONDS)
        eventually(lambda: _found(client), SECONDS)
        chroma.stop()
        chroma.lose()
        by_words = client.memory.recall("parcel 42", top_k=3)
        assert by_words.degradations
        assert "Parcel 42 went to Madrid" in [hit.fact.text for hit in by_words.hits]
        late = client.memory.remember(["Parcel 999 went to Reykjavik"])
        chroma.start()
        eventually(lambda: _found(client), SECONDS)
        found = client.memory.recall(
            "parcel to Reykjavik", top_k=1, min_revision=late.user_revision, timeout=SECONDS
        )
        assert found.hits[0].fact.text == "Parcel 999 went to Reykjavik"
        assert not found.degradations
