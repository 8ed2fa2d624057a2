"""The verifier that is shipped: trees over features, calibrated on sources they did not learn."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier.features import NAMES, compare
from recollect_server.cache.verifier.rules import (
    Kind,
    judged_kind,
    needs_same_words,
    other_matter,
    same_words,
)
from recollect_server.cache.verifier.trees import Trees
from recollect_server.cache.verifier.view import View

MODEL_FILE = Path(__file__).with_name("model.json")
SAME_WORDS = 0.999
"""Probability where nothing counts but the words, and they are the same."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How sure a score of the trees is.

    Attributes:
        scores: ascending, from 0 to 1.
        probabilities: share of right hits among all whose score is at least that.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def probabilities_of(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities of scores, between the known ones by straight lines."""
        return np.interp(scores, self.scores, self.probabilities)


@dataclass(frozen=True, slots=True)
class TreeVerifier:
    """Tells whether an answer to one conversation also answers another.

    A probability p says: of the candidates that are at least as sure, a share of p is right. So
    those with p >= 1 - r keep a rate of false hits of r.

    Attributes:
        embedder: name of the model whose vectors the trees learnt from. With vectors of another
            one, and in languages other than English, only the same words are a hit.
        trees: those of a kind.
        calibrations: that of a kind.
    """

    embedder: str
    trees: Mapping[Kind, Trees]
    calibrations: Mapping[Kind, Calibration]

    def probabilities(
        self, asked: Conversation, stored: Sequence[Conversation]
    ) -> NDArray[np.float64]:
        """Return for each stored conversation the probability that its answer is right."""
        one, others = View(asked), [View(each) for each in stored]
        found = np.zeros(len(stored))
        learnt = []
        for place, other in enumerate(others):
            if self._only_words(one, other):
                found[place] = SAME_WORDS if same_words(one, other) else 0.0
            elif not other_matter(one, other):
                learnt.append(place)
        if not learnt:
            return found
        values = compare(one, [others[place] for place in learnt])
        by_kind: dict[Kind, list[int]] = {}
        for row, place in enumerate(learnt):
            by_kind.setdefault(judged_kind(one, others[place], values[row]), []).append(row)
        # What breaks a rule stays at 0.
        by_kind.pop(Kind.BROKEN, None)
        for kind, rows in by_kind.items():
            odds = self.trees[kind].log_odds(values[rows])
            sure = self.calibrations[kind].probabilities_of(1 / (1 + np.exp(-odds)))
            found[[learnt[row] for row in rows]] = sure
        return found

    def threshold(self, max_false_hit_rate: float) -> float:
        """Return the probability from which a candidate is a hit.

        Args:
            max_false_hit_rate: most false hits among hits, 0 to 1.
        """
        return 1.0 - max_false_hit_rate

    def explain(self, asked: Conversation, stored: Conversation) -> tuple[tuple[str, float], ...]:
        """Return each feature's name and value for a pair.

        The last two are 1 if only the same words were a hit, and if a rule forbade one.
        """
        one, other = View(asked), View(stored)
        (values,) = compare(one, [other])
        broken = other_matter(one, other) or judged_kind(one, other, values) is Kind.BROKEN
        return (
            *zip(NAMES, map(float, values), strict=True),
            ("only_same_words", float(self._only_words(one, other))),
            ("rule_broken", float(broken)),
        )

    def _only_words(self, asked: View, stored: View) -> bool:
        models = {asked.conversation.model, stored.conversation.model}
        return models != {self.embedder} or needs_same_words(asked) or needs_same_words(stored)


def from_stored(stored: Mapping[str, Any]) -> TreeVerifier:
    """Read what `scripts/train_verifier.py` wrote.

    Raises:
        ValueError: it was trained on other features.
    """
    if tuple(stored["columns"]) != NAMES:
        raise ValueError("the model was trained on other features; train it again")
    trees = {name: Trees.of(each) for name, each in stored["trees"].items()}
    kinds = [kind for kind in Kind if kind is not Kind.BROKEN]
    return TreeVerifier(
        embedder=stored["embedder"],
        trees={k: trees["history" if k is Kind.HISTORY else "alone"] for k in kinds},
        calibrations={
            k: Calibration(*(tuple(stored["calibration"][k.value][n]) for n in ("score", "sure")))
            for k in kinds
        },
    )


@cache
def load() -> TreeVerifier:
    """Return the verifier that is shipped with this package."""
    return from_stored(json.loads(MODEL_FILE.read_text(encoding="utf-8")))
