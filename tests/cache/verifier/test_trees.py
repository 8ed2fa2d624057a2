"""Trees are walked for all rows at once as one would walk them."""

import numpy as np

from recollect_server.cache.verifier.trees import Trees


def test_every_row_ends_at_the_leaf_that_its_values_lead_to() -> None:
    chance = np.random.default_rng(3)
    trees = Trees(
        features=chance.integers(0, 9, (20, 7)),
        thresholds=chance.normal(size=(20, 7)),
        leaves=chance.normal(size=(20, 8)),
    )
    rows = chance.normal(size=(50, 9))
    # A value that equals a threshold goes left.
    rows[0, trees.features[0, 0]] = trees.thresholds[0, 0]

    def walk(tree: int, row: np.ndarray) -> float:
        node = 0
        while node < 7:
            right = row[trees.features[tree, node]] > trees.thresholds[tree, node]
            node = 2 * node + 1 + int(right)
        return float(trees.leaves[tree, node - 7])

    expected = [sum(walk(tree, row) for tree in range(20)) for row in rows]
    np.testing.assert_allclose(trees.log_odds(rows), expected, atol=1e-12)
    assert trees.log_odds(rows[:0]).shape == (0,)
