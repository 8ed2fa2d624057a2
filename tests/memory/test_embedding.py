"""The worker that embeds after the acknowledgement, over the real queue."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.stores.sql.support import ADA, Stores

from recollect_server.activity import Activity
from recollect_server.errors import Reason, Unavailable
from recollect_server.memory import embedding
from recollect_server.memory.embedding import EmbeddingWorker
from recollect_server.memory.model import NewFact
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.sqlite import SqliteDatabase


class Moody:
    """An embedder that can be down, or break on some texts."""

    model = "moody"
    dimensions = 4

    def __init__(self) -> None:
        self.down = False

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.down:
            raise Unavailable(Reason.MODEL_UNAVAILABLE, "down")
        if any("poison" in text for text in texts):
            raise ZeroDivisionError("a defect")
        return np.full((len(texts), 4), 0.5, np.float32)


@pytest.fixture
async def stores(tmp_path: Path):
    file = tmp_path / "recollect.db"
    migrate(file)
    database = SqliteDatabase(file)
    yield Stores(database)
    await database.close()


@pytest.fixture
async def embedder(stores):
    """A running worker's embedder."""
    made = Moody()
    work_added = asyncio.Event()
    worker = EmbeddingWorker(stores.queue, made, work_added, Activity())
    task = asyncio.create_task(worker.run())
    made.wake = work_added.set
    yield made
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def _indexed(stores) -> bool:
    revision, indexed = await stores.source.user_revision(ADA)
    return revision == indexed


async def _until(check) -> None:
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


async def test_texts_get_their_vectors_soon_after_the_write(stores, embedder):
    await stores.session()
    await stores.append("a", "b")
    await stores.facts.remember(ADA, [NewFact("c")], None)
    embedder.wake()
    await _until(lambda: _indexed(stores))
    changes = await stores.source.index_changes(ADA, 0, "moody")
    assert all(item.vector is not None for item in changes.upserts)


async def test_an_outage_delays_and_loses_nothing(stores, embedder):
    embedder.down = True
    await stores.session()
    await stores.append("a")
    embedder.wake()

    async def failed() -> bool:
        rows = await stores.database.read(lambda tx: tx.execute("SELECT last_error FROM jobs"))
        return rows == [("down",)]

    await _until(failed)
    assert not await _indexed(stores)
    embedder.down = False
    stores.clock.move(seconds=60)
    embedder.wake()
    await _until(lambda: _indexed(stores))


async def test_a_text_that_breaks_the_model_does_not_stop_other_users(stores, embedder):
    await stores.session()
    await stores.append("poison")
    embedder.wake()
    bob = type(ADA)("acme", "bob")
    await stores.facts.remember(bob, [NewFact("fine")], None)
    embedder.wake()

    async def bob_indexed() -> bool:
        revision, indexed = await stores.source.user_revision(bob)
        return revision == indexed

    await _until(bob_indexed)
    assert not await _indexed(stores)
    rows = await stores.database.read(lambda tx: tx.execute("SELECT last_error FROM jobs"))
    assert rows == [("the embedder failed; see the server's log",)]


class Busy(Activity):
    """A process that never comes to rest."""

    def busy(self) -> bool:
        return True


async def test_texts_that_a_recall_waits_for_do_not_wait_for_a_calm(stores, monkeypatch):
    monkeypatch.setattr(embedding, "LONGEST_PAUSE_SECONDS", 1e6)
    await stores.session()
    await stores.append("a")
    worker = EmbeddingWorker(stores.queue, Moody(), asyncio.Event(), Busy())
    task = asyncio.create_task(worker.run())
    _, pending = await asyncio.wait([task], timeout=0.3)
    assert pending
    assert not await _indexed(stores)
    await stores.source.hurry(ADA)
    await _until(lambda: _indexed(stores))
    task.cancel()
    await asyncio.wait([task])


class Counting(Moody):
    """An embedder that notes how many texts it gets at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.sizes.append(len(texts))
        return await super().embed(texts)


@pytest.mark.parametrize(
    ("activity", "batch"), [(Busy(), embedding.BUSY_BATCH), (Activity(), embedding.BATCH)]
)
async def test_under_load_less_is_embedded_at_once(stores, monkeypatch, activity, batch):
    monkeypatch.setattr(embedding, "LONGEST_PAUSE_SECONDS", 0.01)
    await stores.session()
    texts = [f"text {number}" for number in range(embedding.BATCH + 1)]
    await stores.append(*texts)
    embedder = Counting()
    worker = EmbeddingWorker(stores.queue, embedder, asyncio.Event(), activity)
    task = asyncio.create_task(worker.run())
    await _until(lambda: _indexed(stores))
    task.cancel()
    await asyncio.wait([task])
    assert max(embedder.sizes) == batch
    assert sum(embedder.sizes) == len(texts)


class Stuck(Moody):
    """An embedder that gets no processor."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_what_a_recall_waits_for_is_taken_from_one_who_is_slow_with_it(stores):
    await stores.session()
    await stores.append("a")
    slow = Stuck()
    worker = EmbeddingWorker(stores.queue, slow, asyncio.Event(), Activity(), Moody())
    task = asyncio.create_task(worker.run())
    await slow.asked.wait()
    await stores.source.hurry(ADA)
    await _until(lambda: _indexed(stores))
    task.cancel()
    await asyncio.wait([task])


async def test_one_who_hurries_keeps_the_work_however_often_it_is_asked_for(stores):
    await stores.session()
    await stores.append("a")
    await stores.source.hurry(ADA)
    held = await stores.queue.lease_embedding("moody", 64, hurried=True)
    await stores.source.hurry(ADA)
    assert not await stores.queue.somebody_waits()
    await stores.queue.complete_embedding(held, "moody", np.full((1, 4), 0.5, np.float32))
    assert await _indexed(stores)
