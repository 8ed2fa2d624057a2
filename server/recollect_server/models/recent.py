"""The vectors of recent short texts: questions, which people repeat."""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

# A text of up to this many characters is taken for a question.
CHARACTERS = 512


class RecentVectors:
    """Keeps the vectors of the least recently used texts, 4 bytes a dimension.

    Args:
        limit: how many texts.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def get(self, text: str) -> NDArray[np.float32] | None:
        """Return the text's vector, None if it is not kept."""
        vector = self._vectors.get(text)
        if vector is not None:
            self._vectors.move_to_end(text)
        return vector

    def put(self, text: str, vector: NDArray[np.float32]) -> None:
        """Keep a vector, if the text is short."""
        if len(text) > CHARACTERS:
            return
        # A copy, because the row would keep its whole array alive.
        self._vectors[text] = vector.copy()
        self._vectors.move_to_end(text)
        if len(self._vectors) > self._limit:
            self._vectors.popitem(last=False)
