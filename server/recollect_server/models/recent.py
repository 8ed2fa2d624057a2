"""The vectors of recent short texts: questions, which people repeat."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

# A text of up to this many characters is taken for a question.
CHARACTERS = 512

Compute = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]


class RecentVectors:
    """Computes vectors, but those it has or is about to have.

    Args:
        compute: returns an array of shape (len(texts), dimensions), rows in order.
        limit: how many texts keep their vectors, 4 bytes a dimension; least recently used go.
    """

    def __init__(self, compute: Compute, dimensions: int, limit: int) -> None:
        self._compute = compute
        self._dimensions = dimensions
        self._limit = limit
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._expected: dict[str, asyncio.Task[object]] = {}

    def expect(self, text: str) -> None:
        """Begin to compute the vector of a short text that will be asked for in a moment."""
        known = text in self._vectors or text in self._expected
        if known or len(text) > CHARACTERS or not self._limit:
            return
        task = asyncio.create_task(self._fetch([text]))
        self._expected[text] = task

        def ended(task: asyncio.Task[object]) -> None:
            del self._expected[text]
            # Who waits for it gets the error; perhaps nobody does.
            if not task.cancelled():
                task.exception()

        task.add_done_callback(ended)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (len(texts), dimensions). Raises what `compute` does."""
        distinct = dict.fromkeys(texts)
        for task in [self._expected[text] for text in distinct if text in self._expected]:
            await asyncio.shield(task)
        vectors = {text: self._get(text) for text in distinct}
        missing = [text for text, vector in vectors.items() if vector is None]
        if missing:
            vectors |= zip(missing, await self._fetch(missing), strict=True)
        result = np.empty((len(texts), self._dimensions), np.float32)
        for row, text in enumerate(texts):
            result[row] = vectors[text]
        return result

    async def _fetch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        made = await self._compute(texts)
        for text, vector in zip(texts, made, strict=True):
            if self._limit and len(text) <= CHARACTERS:
                # A copy, because the row would keep its whole array alive.
                self._vectors[text] = vector.copy()
        while len(self._vectors) > self._limit:
            self._vectors.popitem(last=False)
        return made

    def _get(self, text: str) -> NDArray[np.float32] | None:
        vector = self._vectors.get(text)
        if vector is not None:
            self._vectors.move_to_end(text)
        return vector
