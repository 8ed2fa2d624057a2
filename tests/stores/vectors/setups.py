"""Every vector store, real, to run one suite on."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from tests.harness import clean_environment, eventually, unique
from tests.stores.sql.support import MODEL, Stores, open_database

from recollect_server.memory.feeding import Feeder
from recollect_server.memory.model import MemoryKind, NewFact, Vector
from recollect_server.memory.vector_store import VectorFilter, VectorPoint, VectorStore
from recollect_server.scope import Scope
from recollect_server.stores.sql.vector_feeds import SqlVectorFeeds
from recollect_server.stores.sql.vectors import SqlVectorSource
from recollect_server.stores.vectors import VectorConnections

KINDS = ("chroma", "chroma-http", "qdrant", "pgvector")
"""The stores that the suite runs on; `qdrant` is its client's local mode."""

ALL = frozenset(MemoryKind)
START = datetime(2026, 1, 1, tzinfo=UTC)


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows of unit length."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def topical(count: int, dimensions: int, seed: int = 1) -> NDArray[np.float32]:
    """Return unit vectors around some hundred topics, as those of texts are."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((max(2, min(500, count // 20)), dimensions))
    noise = rng.standard_normal((count, dimensions))
    return unit(topics[rng.integers(0, len(topics), count)] + 0.8 * noise)


def point(
    number: int,
    vector: Vector,
    *,
    kind: MemoryKind = MemoryKind.TURN,
    item_id: str | None = None,
    session: str = "s",
    passage: int = 0,
) -> VectorPoint:
    """Return a point, a minute later than the one before."""
    return VectorPoint(
        kind,
        f"i{number}" if item_id is None else item_id,
        session,
        number,
        START + timedelta(minutes=number),
        passage,
        vector,
    )


def within(*kinds: MemoryKind, **bounds: Any) -> VectorFilter:
    """Return a filter, of all kinds if none is named."""
    return VectorFilter(frozenset(kinds) or ALL, **bounds)


@contextmanager
def chroma_server(folder: Path, port: int = 0) -> Iterator[str]:
    """A `chroma run`, on a free port if none is named; yields its URL."""
    with socket.socket() as probe:
        if not port:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    program = Path(sys.executable).parent / "chroma"
    command = [str(program), "run", "--path", str(folder), "--host", "127.0.0.1"]
    log = (folder / "log").open("ab")
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=log, stderr=log, env=clean_environment()
    )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(answers, 60.0)
        yield f"chroma+http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        log.close()


@dataclass
class Place:
    """Where one kind of store is, and a database to feed it from.

    Attributes:
        location: the database, as `migrate` takes it.
        url: the store's.
    """

    location: str | Path
    url: str
    opened: list[Any] = field(default_factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Opened"]:
        """Open the database and the connections, as a process does at its start."""
        database = open_database(self.location)
        connections = VectorConnections(database, postgres=isinstance(self.location, str))
        try:
            yield Opened(self.location, self.url, Stores(database), connections)
        finally:
            await connections.close()
            await database.close()


@dataclass
class Opened:
    """A database, and the vector stores beside it; see `Place`."""

    location: str | Path
    url: str
    stores: Stores
    connections: VectorConnections

    def __post_init__(self) -> None:
        # Real time: registrations settle and retire by it.
        self.feeds = SqlVectorFeeds(self.stores.database, lambda: datetime.now(UTC))
        self.vectors = SqlVectorSource(self.stores.database)
        self.feeder = Feeder(self.feeds, self.connections, lambda: datetime.now(UTC))

    async def store(self, dimensions: int, name: str = "") -> VectorStore:
        """Return a store that is there; a new one without a name."""
        store = self.connections(
            self.url, name or unique("recollect_t").replace("-", "_"), dimensions
        )
        await store.create()
        return store

    async def remember(
        self, scope: Scope, texts: list[str], vectors: NDArray[np.float32], *, first: int = 0
    ) -> None:
        """Store facts, whose ids are their numbers from `first` on, with their vectors."""
        for start in range(0, len(texts), 500):
            facts = [
                NewFact(text, f"f{first + start + number}")
                for number, text in enumerate(texts[start : start + 500])
            ]
            await self.stores.facts.remember(scope, facts, None)
        by_id = {f"f{first + number}": vector for number, vector in enumerate(vectors)}
        while task := await self.stores.queue.lease_embedding(MODEL, 500):
            rows = np.stack([by_id[item.item_id] for item in task.items])
            await self.stores.queue.complete_embedding(task, MODEL, rows)
