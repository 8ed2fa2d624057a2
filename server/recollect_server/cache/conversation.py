"""A prompt as the semantic tier sees it: who said what, last, and a vector of each message."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import Role


@dataclass(frozen=True, slots=True)
class Conversation:
    """The text messages of a prompt, oldest first; the last one is the question.

    Attributes:
        roles: USER or ASSISTANT of each message.
        texts: of each message, not empty.
        vectors: shape (messages, dimensions), unit length, one embedding of each text.
        model: name of the embedder that made `vectors`; those of two models are not comparable.
    """

    roles: tuple[Role, ...]
    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    model: str


class Verifier(Protocol):
    """Tells how sure it is that an answer to one conversation also answers another."""

    def probabilities(
        self, asked: Conversation, stored: Sequence[Conversation]
    ) -> NDArray[np.float64]:
        """Return for each stored conversation the calibrated probability that its answer is right.

        Shape (len(stored),), from 0 to 1.
        """

    def threshold(self, max_false_hit_rate: float) -> float:
        """Return the probability from which a candidate is a hit; over 1 means never.

        Args:
            max_false_hit_rate: most false hits among hits of the semantic tier, 0 to 1.
        """

    def explain(self, asked: Conversation, stored: Conversation) -> tuple[tuple[str, float], ...]:
        """Return the name and value of each number that made a pair's probability."""
