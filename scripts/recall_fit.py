"""Weights of the rank's features, learned from questions with known answers.

A listwise softmax (Cao et al. 2007): the weights that make the relevant of the candidates most
probable, each kind of conversation counting the same, with a small penalty on large weights.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PENALTY = 1e-3
STEPS = 20
STEPS_FROM_NEAR = 3
LONGEST_STEP = 0.5
"""In units of a feature's deviation: farther away the curvature says nothing."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question's candidates.

    Attributes:
        values: shape (candidates, features).
        relevant: shape (candidates,), at least one of them.
        kind: of conversation.
        user: whose question it is.
    """

    values: NDArray[np.float64]
    relevant: NDArray[np.bool_]
    kind: str
    user: str


def fit(
    examples: Sequence[Example], near: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the weights, shape (features,), by Newton's method.

    Args:
        near: weights that were fitted to nearly the same examples, to start from.
    """
    count = Counter(example.kind for example in examples)
    scale = np.concatenate([example.values for example in examples]).std(axis=0) + 1e-9
    weights = np.zeros(len(scale)) if near is None else near * scale
    for _ in range(STEPS if near is None else STEPS_FROM_NEAR):
        gradient = 2 * PENALTY * weights
        curvature = 2 * PENALTY * np.eye(len(scale))
        for example in examples:
            values = example.values / scale
            scores = values @ weights
            chance = np.exp(scores - scores.max())
            chance /= chance.sum()
            mean = chance @ values
            share = 1 / count[example.kind]
            gradient += share * (mean - values[example.relevant].mean(axis=0))
            curvature += share * ((values.T * chance) @ values - np.outer(mean, mean))
        step = np.linalg.solve(curvature, gradient)
        weights -= step * min(1.0, LONGEST_STEP / max(float(np.linalg.norm(step)), 1e-12))
    return np.asarray(weights / scale)
