"""The embedder as the domain sees it: asynchronous, with a cache of recent short texts."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recollect_server.models.minilm._encoder import DIMENSIONS, Encoder
from recollect_server.models.minilm._worker import Worker

# A text of up to this many characters is taken for a query, which people repeat.
_CACHED_CHARACTERS = 512

LOWEST_PRIORITY = 19

# A long call is handed over in parts, so that it never keeps the thread tokenising for long.
_PART_TEXTS = 128


class MiniLmEmbedder:
    """all-MiniLM-L6-v2: English sentences and short paragraphs to 384 dimensions.

    A text counts up to its 256th token. Loading takes about 0.2 s and blocks. Use one instance
    from one event loop at a time.

    Args:
        threads: how many threads one inference uses; 0 means all usable cores.
        cached_texts: how many recent short texts keep their vectors, 1.5 KB each.
        background: compute only while nobody else needs the processor, with a model of its own
            (about 100 MB), which is loaded by the first call.

    Raises:
        FileNotFoundError: the bundled files are missing.
    """

    model: str = "all-MiniLM-L6-v2"
    dimensions: int = DIMENSIONS

    def __init__(
        self, threads: int = 0, cached_texts: int = 2048, *, background: bool = False
    ) -> None:
        folder = Path(__file__).parent
        if background:
            self._worker = Worker(lambda: Encoder(folder, threads), niceness=LOWEST_PRIORITY)
        else:
            encoder = Encoder(folder, threads)
            self._worker = Worker(lambda: encoder)
        self._cached_texts = cached_texts
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (len(texts), 384), rows of unit length, in order.

        Calls that overlap share batches; equal texts of a call are computed once.

        Raises:
            Unavailable: SHUTTING_DOWN, the embedder is closed and a text is not cached.
        """
        vectors = {text: self._recall(text) for text in dict.fromkeys(texts)}
        # Neighbours of like length make batches with little padding.
        missing = sorted((text for text, vector in vectors.items() if vector is None), key=len)
        for start in range(0, len(missing), _PART_TEXTS):
            part = missing[start : start + _PART_TEXTS]
            for text, vector in zip(part, await self._worker.submit(part), strict=True):
                vectors[text] = vector
                self._keep(text, vector)
        result = np.empty((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            result[row] = vectors[text]
        return result

    async def close(self) -> None:
        """Finish what is queued and end the thread; `embed` computes nothing from now on."""
        self._worker.stop()
        await asyncio.to_thread(self._worker.join)

    def _recall(self, text: str) -> NDArray[np.float32] | None:
        vector = self._cache.get(text)
        if vector is not None:
            self._cache.move_to_end(text)
        return vector

    def _keep(self, text: str, vector: NDArray[np.float32]) -> None:
        if len(text) > _CACHED_CHARACTERS:
            return
        # A copy, because the row would keep its whole array alive.
        self._cache[text] = vector.copy()
        self._cache.move_to_end(text)
        if len(self._cache) > self._cached_texts:
            self._cache.popitem(last=False)
