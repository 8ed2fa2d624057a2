"""The queue of texts that wait for their vectors."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.ports.index import IndexItem
from recollect_server.scope import Scope


@dataclass(frozen=True, slots=True)
class EmbeddingTask:
    """Texts of one user that wait for a vector of `model`.

    Attributes:
        items: what to embed; `vector` is None on all.
    """

    job_id: str
    lease: int
    scope: Scope
    items: tuple[IndexItem, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingBacklog:
    """The texts that wait for their vectors.

    Attributes:
        waiting: their number.
        reembedding: how many of them have a vector of another model, which is to be replaced.
        oldest_time: when the first of them began to wait, None if none does.
        checking: users are still being looked through for vectors of another model, so
            `reembedding` may grow.
    """

    waiting: int
    reembedding: int
    oldest_time: datetime | None
    checking: bool


class EmbeddingQueue(Protocol):
    """The outbox of texts to embed: leased, retried with backoff, idempotent."""

    async def use_model(self, model: str) -> None:
        """Make a model the one that embeds; what others embedded is queued again, bit by bit."""

    async def backlog(self, tenant: str = "") -> EmbeddingBacklog:
        """Return what waits, of a tenant or, with "", of all."""

    async def somebody_waits(self) -> bool:
        """Whether `IndexSource.hurry` asked for texts, in any process, that nobody hurries with."""

    async def lease_embedding(
        self, model: str, limit: int, *, hurried: bool = False
    ) -> EmbeddingTask | None:
        """Lease the next due job with up to `limit` items, or None.

        None, too, while `model` is not the one that embeds.

        Args:
            hurried: `IndexSource.hurry` does not take the job away again, as it does from others.
        """

    async def complete_embedding(
        self, task: EmbeddingTask, model: str, vectors: NDArray[np.float32]
    ) -> None:
        """Store the vectors and finish the job, or keep it due if more items wait.

        A lease that was lost meanwhile changes nothing, and vectors of a model that no longer
        embeds are not stored.
        """

    async def fail_embedding(self, task: EmbeddingTask, error: str, *, waits: bool) -> None:
        """Give the job back with backoff; after the last attempt it is a dead letter.

        Args:
            waits: the embedder is down, so it was no attempt.
        """
