"""The numbers by which the verifier compares two conversations."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.verifier.quantities import Quantity
from recollect_server.cache.verifier.reading import single
from recollect_server.cache.verifier.similarity import Similarity, similarities
from recollect_server.cache.verifier.view import View

_TELLING = 6
"""An answer of so many content words tells what a conversation is about."""
_ENOUGH = 12
DECIMALS = 4
"""Of a value: further ones are the rounding of stored vectors, and no tree may go by them."""


class Pair:
    """Two conversations to be compared.

    Attributes:
        similar: of their vectors.
        new_asked: content words of the asked question that the stored conversation does not have,
            in order.
        new_stored: the same the other way round.
    """

    def __init__(self, asked: View, stored: View, similar: Similarity) -> None:
        self.asked = asked
        self.stored = stored
        self.similar = similar
        self.new_asked = _new(asked, stored)
        self.new_stored = _new(stored, asked)

    @property
    def alone(self) -> bool:
        """Nothing was said before either question."""
        return self.asked.alone and self.stored.alone


@dataclass(frozen=True, slots=True)
class Feature:
    """A number and how it may count.

    Attributes:
        direction: 1 if more of it may only make a hit likelier, -1 less likely, 0 either.
    """

    name: str
    direction: int
    compute: Callable[[Pair], float]


def _answer(pair: Pair) -> float:
    """Similarity of the last answers, as far as they say something that could tell them apart."""
    if pair.asked.alone:
        return pair.similar.answer
    said = min(pair.asked.answer_content, pair.stored.answer_content)
    return pair.similar.answer * min(1.0, said / _TELLING)


def _shared_history(pair: Pair) -> int:
    """How many words both histories have, up to 12; 12 without histories."""
    return _ENOUGH if pair.alone else min(_ENOUGH, len(pair.asked.said & pair.stored.said))


def _dangling(pair: Pair) -> bool:
    """Nothing was said that a pronoun of either question could mean."""
    return pair.alone and (pair.asked.reading.points or pair.stored.reading.points)


def _new(one: View, other: View) -> list[str]:
    return [word for word in one.reading.content if word not in other.vocabulary]


def _share(new: Sequence[str], one: View) -> float:
    return len(new) / max(1, len(one.reading.content))


def _longest_run(new: Sequence[str], one: View) -> int:
    """Most new words in a row."""
    if len(new) < 2:
        return len(new)
    longest = run = 0
    for word in one.reading.content:
        run = run + 1 if word in new else 0
        longest = max(longest, run)
    return longest


def _only_added(pair: Pair) -> bool:
    """One question says all that the other says, and more."""
    return bool(pair.new_asked) != bool(pair.new_stored)


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 1.0


def _contained(pair: Pair) -> float:
    """Share of the content words of one question that the other has, of whichever has more."""
    a, b = pair.asked.own, pair.stored.own
    least = min(len(a), len(b))
    return len(a & b) / least if least else float(not a and not b)


def _beyond_history(pair: Pair) -> float:
    """Overlap of the questions' content words without those that both histories have."""
    shared = pair.asked.said & pair.stored.said
    return _overlap(pair.asked.own - shared, pair.stored.own - shared)


def _disorder(first: Sequence[object], second: Sequence[object]) -> float:
    """Share of neighbouring pairs of the first sequence that the second has the other way round.

    Of the items that both have.
    """
    places = {item: place for place, item in enumerate(second)}
    shared = [item for item in first if item in places]
    if len(shared) < 2:
        return 0.0
    pairs = list(pairwise(shared))
    return sum(places[a] > places[b] for a, b in pairs) / len(pairs)


def _missing_values(one: View, other: View) -> int:
    return len(set(one.values) - other.known_values)


def _value_difference(pair: Pair) -> int:
    """How many quantities one question has more than the other, of either."""
    asked, stored = pair.asked.values, pair.stored.values
    if not asked or not stored:
        return len(asked) + len(stored)
    a, b = Counter(asked), Counter(stored)
    return ((a - b) + (b - a)).total()


def _values_agree(pair: Pair) -> int:
    """How many quantities the questions share, if they have no other; at most 4."""
    return 0 if _value_difference(pair) else min(4, len(pair.asked.values))


def _least_context(pair: Pair) -> float:
    """Of the shared quantities, the least overlap of the words beside them; 1 without any."""
    scores = []
    for quantity in pair.asked.reading.quantities:
        same = [q for q in pair.stored.reading.quantities if q.value == quantity.value]
        if same:
            scores.append(max(_beside(quantity, other) for other in same))
    return min(scores, default=1.0)


def _beside(a: Quantity, b: Quantity) -> float:
    least = min(len(a.beside), len(b.beside))
    return len(a.beside & b.beside) / least if least else 1.0


def _new_names(one: View, other: View) -> int:
    return len(one.reading.names - other.vocabulary)


def _renamed(pair: Pair) -> int:
    return min(_new_names(pair.asked, pair.stored), _new_names(pair.stored, pair.asked))


def _opposed(pair: Pair) -> int:
    a, b = pair.asked.reading.turns, pair.stored.reading.turns
    return sum((what, 1 - side) in b and (what, side) not in b for what, side in a)


def _same_words(pair: Pair) -> bool:
    return pair.asked.reading.words == pair.stored.reading.words


def _shuffled(pair: Pair) -> bool:
    """The same words in another order."""
    return (
        not _same_words(pair)
        and pair.asked.reading.sorted_words == pair.stored.reading.sorted_words
    )


def _length(pair: Pair) -> float:
    a, b = len(pair.asked.reading.words), len(pair.stored.reading.words)
    return min(a, b) / max(a, b, 1)


FEATURES = (
    Feature("question", 1, lambda p: p.similar.question),
    Feature("history", 1, lambda p: p.similar.history),
    Feature("user_history", 1, lambda p: p.similar.users),
    Feature("last_answer", 1, _answer),
    Feature("recent", 1, lambda p: p.similar.recent),
    Feature("turns_matched", 1, lambda p: p.similar.turns),
    Feature("question_x_history", 1, lambda p: p.similar.question * p.similar.history),
    Feature("question_x_answer", 1, lambda p: p.similar.question * _answer(p)),
    Feature("asked_before", -1, lambda p: p.similar.asked_before),
    Feature("stored_before", -1, lambda p: p.similar.stored_before),
    Feature("previous_question", 1, lambda p: p.similar.previous),
    Feature("aligned", 1, lambda p: p.similar.aligned),
    Feature("placed", 1, lambda p: p.similar.placed),
    Feature("shared_history", 1, _shared_history),
    Feature("dangling", -1, _dangling),
    Feature("new_asked", -1, lambda p: _share(p.new_asked, p.asked)),
    Feature("new_stored", -1, lambda p: _share(p.new_stored, p.stored)),
    Feature("run_asked", -1, lambda p: _longest_run(p.new_asked, p.asked)),
    Feature("run_stored", -1, lambda p: _longest_run(p.new_stored, p.stored)),
    Feature("replaced", -1, lambda p: min(len(set(p.new_asked)), len(set(p.new_stored)))),
    Feature("one_sided", -1, lambda p: abs(len(p.new_asked) - len(p.new_stored))),
    Feature("only_added", -1, _only_added),
    Feature("asking", 1, lambda p: _overlap(p.asked.reading.asking, p.stored.reading.asking)),
    Feature("overlap", 1, lambda p: _overlap(p.asked.own, p.stored.own)),
    Feature("contained", 1, _contained),
    Feature("beyond_history", 1, _beyond_history),
    Feature("disorder", -1, lambda p: _disorder(p.asked.reading.single, p.stored.reading.single)),
    Feature("same_words", 1, _same_words),
    Feature("shuffled", -1, _shuffled),
    Feature("length", 1, _length),
    Feature("missing_values_asked", -1, lambda p: _missing_values(p.asked, p.stored)),
    Feature("missing_values_stored", -1, lambda p: _missing_values(p.stored, p.asked)),
    Feature("value_difference", -1, _value_difference),
    Feature("values_agree", 1, _values_agree),
    Feature(
        "values_disordered",
        -1,
        lambda p: _disorder(single(p.asked.values), single(p.stored.values)),
    ),
    Feature("quantity_context", 1, _least_context),
    Feature("quantities", 0, lambda p: len(p.asked.values)),
    Feature("new_names_asked", -1, lambda p: _new_names(p.asked, p.stored)),
    Feature("new_names_stored", -1, lambda p: _new_names(p.stored, p.asked)),
    Feature("renamed", -1, _renamed),
    Feature("opposed", -1, _opposed),
    Feature(
        "negation_differs",
        -1,
        lambda p: abs(p.asked.reading.negations - p.stored.reading.negations),
    ),
    Feature(
        "qualifiers_differ",
        -1,
        lambda p: len(p.asked.reading.qualifiers ^ p.stored.reading.qualifiers),
    ),
    Feature("asks_differently", -1, lambda p: len(p.asked.reading.asks ^ p.stored.reading.asks)),
)
"""What is compared, in the order of the model's columns."""

NAMES = tuple(feature.name for feature in FEATURES)

_COMPUTE = tuple(feature.compute for feature in FEATURES)


def compare(asked: View, stored: Sequence[View]) -> NDArray[np.float64]:
    """Return the values of `FEATURES` for each stored one, shape (len(stored), columns)."""
    similar = similarities(asked.conversation, [view.conversation for view in stored])
    pairs = [Pair(asked, view, each) for view, each in zip(stored, similar, strict=True)]
    rows = [[compute(pair) for compute in _COMPUTE] for pair in pairs]
    values = np.array(rows, np.float64).reshape(len(stored), len(FEATURES))
    return values.round(DECIMALS)
