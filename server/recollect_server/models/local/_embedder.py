"""The embedder as the domain sees it: asynchronous, with a cache of recent short texts."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from recollect_server.models.local._worker import Encoder, Worker
from recollect_server.models.recent import RecentVectors

LOWEST_PRIORITY = 19

CACHED_TEXTS = 2048

# A long call is handed over in parts, so that it never keeps the thread tokenising for long.
_PART_TEXTS = 128


class LocalEmbedder:
    """Embeds in a thread of this process. Use one instance from one event loop at a time.

    Args:
        model: name stored beside every vector.
        dimensions: length of a vector.
        make: makes the model, in the thread and when it is first needed.
        cached_texts: how many recent short texts keep their vectors.
        background: compute only while nobody else needs the processor.
    """

    def __init__(
        self,
        model: str,
        dimensions: int,
        make: Callable[[], Encoder],
        *,
        cached_texts: int = CACHED_TEXTS,
        background: bool = False,
    ) -> None:
        self.model = model
        self.dimensions = dimensions
        self._worker = Worker(make, dimensions, niceness=LOWEST_PRIORITY if background else 0)
        self._recent = RecentVectors(self._compute, dimensions, cached_texts)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (len(texts), dimensions), rows of unit length, in order.

        Calls that overlap share batches; equal texts of a call are computed once.

        Raises:
            Unavailable: SHUTTING_DOWN, the embedder is closed and a text is not cached.
        """
        return await self._recent.embed(texts)

    def expect(self, text: str) -> None:
        """Begin to embed a text that will be asked for in a moment."""
        self._recent.expect(text)

    async def _compute(self, texts: Sequence[str]) -> NDArray[np.float32]:
        made = np.empty((len(texts), self.dimensions), np.float32)
        # Neighbours of like length make batches with little padding.
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(order), _PART_TEXTS):
            part = order[start : start + _PART_TEXTS]
            made[part] = await self._worker.submit([texts[number] for number in part])
        return made

    async def close(self) -> None:
        """Finish what is queued and end the thread; `embed` computes nothing from now on."""
        self._worker.stop()
        await asyncio.to_thread(self._worker.join)
