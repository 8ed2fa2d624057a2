"""Quantities are read from digits and words alike."""

import pytest

from recollect_server.cache.verifier.reading import read


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("twenty-five apples and 3 pears", [25, 3]),
        ("$1,200.50 for two thousand five hundred", [1200.5, 2500]),
        ("20% of it, or 20 percent", [0.2, 0.2]),
        ("one-fourth, a quarter, 1/4 and 0.25", [0.25, 0.25, 0.25, 0.25]),
        ("twice as many, half of them, a dozen, two dozen", [2, 0.5, 12, 24]),
        ("the one that I want", []),
        ("a hundred and five", [105]),
    ],
)
def test_values(text, values):
    assert [quantity.value for quantity in read(text).quantities] == pytest.approx(values)


def test_words_beside_a_quantity_are_kept():
    (first, second) = read("4 red pens and 7 blue pencils").quantities
    assert {"red", "pens"} <= first.beside
    assert {"blue", "pencils"} <= second.beside
