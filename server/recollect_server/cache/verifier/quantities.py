"""The quantities of a text: digits and number words with the words beside them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_UNITS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
    )
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_FRACTIONS = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100,
}  # fmt: skip
_FRACTIONS |= {f"{word}s": value for word, value in _FRACTIONS.items() if word != "half"}
_MULTIPLES = {
    "twice": 2.0, "double": 2.0, "doubled": 2.0, "doubles": 2.0, "doubling": 2.0, "thrice": 3.0,
    "triple": 3.0, "tripled": 3.0, "triples": 3.0, "quadruple": 4.0, "dozen": 12.0,
}  # fmt: skip
_PERCENT = frozenset(("%", "percent", "pct"))
_DIGITS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+")
_STARTS = frozenset((*_UNITS, *_TENS, *_SCALES, *_MULTIPLES, "half", "halves", "a", "an"))
"""Words that a quantity may begin with, beside digits."""
TOKEN = re.compile(rf"{_DIGITS.pattern}|[^\W\d_]+|[%$€£¥₹/]")
"""Numbers, words and the signs that tell what a number counts."""

_SPAN = 3


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what stands beside it.

    Attributes:
        value: a percentage as its hundredth.
        beside: up to three words on either side.
        start: place of its first word.
    """

    value: float
    beside: frozenset[str]
    start: int


def _digits(word: str) -> float | None:
    return float(word.replace(",", "")) if _DIGITS.fullmatch(word) else None


def _cardinal(words: Sequence[str], start: int) -> tuple[float, int] | None:
    """Read a number at `start`: its value and the place after it."""
    total = current = 0.0
    end = place = start
    before = ""
    while place < len(words):
        word = words[place]
        value = _digits(word)
        if value is not None and place == start:
            current = value
        elif word in _UNITS and (place == start or before in _TENS or before in _SCALES):
            current += _UNITS[word]
        elif word in _TENS and (place == start or before in _SCALES):
            current += _TENS[word]
        elif word in _SCALES:
            scale = _SCALES[word]
            current = max(current, 1.0) * scale
            if scale >= 1_000:
                total, current = total + current, 0.0
        elif word == "and" and before in _SCALES:
            place += 1
            continue
        else:
            break
        before = word
        place += 1
        end = place
    return (total + current, end) if end > start else None


def _quantity(words: Sequence[str], start: int) -> tuple[float, int] | None:
    word = words[start]
    if word in _MULTIPLES:
        return _MULTIPLES[word], start + 1
    if word in ("half", "halves"):
        return 0.5, start + 1
    if word in ("a", "an") and start + 1 < len(words) and words[start + 1] in _FRACTIONS:
        return 1 / _FRACTIONS[words[start + 1]], start + 2
    read = _cardinal(words, start)
    if read is None:
        return None
    value, end = read
    following = words[end] if end < len(words) else ""
    if following in _FRACTIONS and value < 100:
        return value / _FRACTIONS[following], end + 1
    if following == "/" and end + 1 < len(words):
        divisor = _digits(words[end + 1])
        if divisor:
            return value / divisor, end + 2
    if following in _PERCENT:
        return value / 100, end + 1
    if following == "dozen":
        return value * 12, end + 1
    return value, end


def quantities(words: Sequence[str]) -> tuple[list[Quantity], set[int]]:
    """Return the quantities of case-folded words of `TOKEN`, and the places they take."""
    found: list[tuple[float, int, int]] = []
    taken: set[int] = set()
    for place, word in enumerate(words):
        if place in taken or not (word in _STARTS or word[0].isdigit() or word[0] == "."):
            continue
        read = _quantity(words, place)
        if read is not None:
            value, end = read
            found.append((value, place, end))
            taken.update(range(place, end))
    return [
        Quantity(
            round(value, 9),
            frozenset(
                words[i]
                for i in (*range(max(0, start - _SPAN), start), *range(end, end + _SPAN))
                if i < len(words) and i not in taken
            ),
            start,
        )
        for value, start, end in found
    ], taken
