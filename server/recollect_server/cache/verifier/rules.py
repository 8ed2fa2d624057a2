"""What is no matter of degree: kinds of pairs, rules, and languages that were not learnt."""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.verifier.features import NAMES
from recollect_server.cache.verifier.view import View
from recollect_server.memory.recall.words import words

_LEAST_ENGLISH = 0.1
_MOST_FOREIGN = 0.2

RULES = (
    "only_added",
    "value_difference",
    "values_disordered",
    "renamed",
    "opposed",
    "negation_differs",
    "shuffled",
    "dangling",
)
"""Features of which none may be over 0 where neither question goes by a history."""

_RULES = [NAMES.index(name) for name in RULES]
_AGREE = NAMES.index("values_agree")
_OPPOSED = NAMES.index("opposed")
_MISSING = [NAMES.index(f"missing_values_{side}") for side in ("asked", "stored")]


class Kind(Enum):
    """What there is to compare; each kind is calibrated by itself."""

    HISTORY = "history"
    ALONE = "alone"
    COUNTED = "counted"
    """Alone, and the same two or more quantities."""
    BROKEN = "broken"
    """A rule says that it is not the same question."""


def judged_kind(asked: View, stored: View, values: NDArray[np.float64]) -> Kind:
    """Return the kind of a pair with these values of `FEATURES`, by all rules."""
    if other_matter(asked, stored, values):
        return Kind.BROKEN
    return kind_of(asked, stored, values)


def kind_of(asked: View, stored: View, values: NDArray[np.float64]) -> Kind:
    """Return the kind that a pair is learnt and calibrated as, without `other_matter`."""
    if not (asked.alone and stored.alone):
        return Kind.HISTORY
    if _breaks_a_rule(values):
        return Kind.BROKEN
    return Kind.COUNTED if values[_AGREE] >= 2 else Kind.ALONE


def other_matter(asked: View, stored: View, values: NDArray[np.float64]) -> bool:
    """Whether the questions differ in something that no history makes up for.

    People ask one thing after the other in one form, and after the same greeting: then nothing but
    a word, a name or a number tells the questions apart, and a history that agrees says nothing.
    The calibration does not count on this rule, which only makes hits fewer and safer.
    """
    return (
        values[_OPPOSED] > 0
        or _other_names(asked, stored)
        or _other_values(asked, stored, values)
        or _other_words(asked, stored)
        or (not (asked.leans or stored.leans) and _breaks_a_rule(values))
    )


def _breaks_a_rule(values: NDArray[np.float64]) -> bool:
    return bool((values[_RULES] > 0).any())


def _other_words(asked: View, stored: View) -> bool:
    """Whether a question is about something that the other conversation never mentions.

    If only one is, the other may leave it to its history.
    """
    more, less = asked.own - stored.mentioned, stored.own - asked.mentioned
    if more and less:
        return True
    return bool((more and not stored.leans) or (less and not asked.leans))


def _other_names(asked: View, stored: View) -> bool:
    """Whether each question names what the other does not, and not all of it is known there."""
    a, s = asked.reading.names, stored.reading.names
    more, less = a - s, s - a
    return bool(more and less and (more - stored.mentioned or less - asked.mentioned))


def _other_values(asked: View, stored: View, values: NDArray[np.float64]) -> bool:
    """Whether both questions name quantities, and not the same ones.

    One may name a quantity that the other leaves to its history.
    """
    a, s = frozenset(asked.values), frozenset(stored.values)
    return bool(a and s) and (bool(a - s and s - a) or bool((values[_MISSING] > 0).any()))


def needs_same_words(view: View) -> bool:
    """Whether it is in a language that the model did not learn: then only words can be sure."""
    if view.reading.foreign or view.reading.english < _LEAST_ENGLISH:
        return True
    near = sum(earlier.words for earlier in view.near)
    return sum(earlier.foreign for earlier in view.near) > _MOST_FOREIGN * near


def same_words(asked: View, stored: View) -> bool:
    """Whether question and history say the same, message by message, but for case and signs."""
    a, s = asked.conversation, stored.conversation
    return a.roles == s.roles and all(
        one == other or (bool(words(one)) and words(one) == words(other))
        for one, other in zip(a.texts, s.texts, strict=True)
    )
