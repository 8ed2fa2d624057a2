"""Models that memory calls: embedders, and small language models."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import ExtractedFact, Message


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def model(self) -> str:
        """Name stored beside every vector; vectors of different names are never compared."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (len(texts), dimensions), rows of unit length, in order.

        Raises:
            Unavailable: the model cannot be reached.
        """

    def expect(self, text: str) -> None:
        """Begin to embed a text that will be asked for in a moment."""


class Summarizer(Protocol):
    """Puts conversations into few words."""

    @property
    def summary_model(self) -> str:
        """Name kept with what it writes; `extractive` if it only quotes."""

    async def summarize(self, earlier: str, messages: Sequence[Message]) -> str:
        """Return a summary of `earlier`, a summary or "", and the messages after it.

        Raises:
            Unavailable, ResourceExhausted: the model does not answer now.
            BadModelAnswer: it answered, but not with a summary.
        """

    async def title(self, summary: str) -> str:
        """Return a title of a few words for a summary. Raises as `summarize` does."""


class FactExtractor(Protocol):
    """Finds statements about the user in a conversation."""

    @property
    def extraction_model(self) -> str:
        """Name kept with what it finds; `verbatim` if it only quotes."""

    async def extract(self, messages: Sequence[Message]) -> tuple[ExtractedFact, ...]:
        """Return what the messages, in their order, say about the user. Raises as `Summarizer`."""
