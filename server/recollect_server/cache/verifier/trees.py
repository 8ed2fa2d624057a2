"""An ensemble of small decision trees, evaluated by numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Trees:
    """Complete binary trees of one depth; node n's children are 2n + 1 and 2n + 2.

    Attributes:
        features: column that a node looks at, shape (trees, 2**depth - 1).
        thresholds: a value up to it goes left, same shape.
        leaves: log-odds of each leaf, shape (trees, 2**depth).
    """

    features: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    leaves: NDArray[np.float64]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Trees":
        """Read what the training script wrote."""
        return cls(
            np.array(stored["features"], np.int64),
            np.array(stored["thresholds"], np.float64),
            np.array(stored["leaves"], np.float64),
        )

    def log_odds(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the trees for each row of shape (n, columns), shape (n,)."""
        inner = self.features.shape[1]
        trees = np.arange(len(self.features))
        lines = np.arange(len(rows))[:, None]
        nodes = np.zeros((len(rows), len(trees)), np.int64)
        while nodes[0, 0] < inner if len(rows) else False:
            right = rows[lines, self.features[trees, nodes]] > self.thresholds[trees, nodes]
            nodes = 2 * nodes + 1 + right
        total: NDArray[np.float64] = self.leaves[trees, nodes - inner].sum(axis=1)
        return total
