"""The verifier that is shipped: trees over features, calibrated."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier.features import NAMES, View, compare
from recollect_server.cache.verifier.trees import Trees

MODEL_FILE = Path(__file__).with_name("model.json")


@dataclass(frozen=True, slots=True)
class TreeVerifier:
    """Tells whether an answer to one conversation also answers another.

    Attributes:
        embedder: name of the model whose vectors the trees learnt from.
        rates: rates of false hits among hits for which thresholds are known, ascending.
        thresholds: probability from which a candidate is a hit, one for each rate.
    """

    trees: Trees
    embedder: str
    rates: tuple[float, ...]
    thresholds: tuple[float, ...]

    def probabilities(
        self, asked: Conversation, stored: Sequence[Conversation]
    ) -> NDArray[np.float64]:
        """Return for each stored conversation the probability that its answer is right."""
        if not stored:
            return np.zeros(0)
        view = View(asked)
        rows = np.stack([compare(view, View(each)) for each in stored])
        chances: NDArray[np.float64] = 1 / (1 + np.exp(-self.trees.log_odds(rows)))
        return chances

    def threshold(self, max_false_hit_rate: float) -> float:
        """Return the probability from which a candidate is a hit; over 1 means never.

        Args:
            max_false_hit_rate: most false hits among hits, 0 to 1. Between two known rates the
                stricter one counts.
        """
        place = bisect_right(self.rates, max_false_hit_rate)
        return self.thresholds[place - 1] if place else 2.0

    def explain(self, asked: Conversation, stored: Conversation) -> tuple[tuple[str, float], ...]:
        """Return each feature's name and value for a pair."""
        values = compare(View(asked), View(stored))
        return tuple(zip(NAMES, map(float, values), strict=True))


@cache
def load() -> TreeVerifier:
    """Return the verifier that is shipped with this package."""
    stored = json.loads(MODEL_FILE.read_text(encoding="utf-8"))
    if tuple(stored["columns"]) != NAMES:
        raise ValueError(f"{MODEL_FILE.name} was trained on other features; train it again")
    return TreeVerifier(
        trees=Trees.of(stored["trees"]),
        embedder=stored["embedder"],
        rates=tuple(stored["rates"]),
        thresholds=tuple(stored["thresholds"]),
    )
