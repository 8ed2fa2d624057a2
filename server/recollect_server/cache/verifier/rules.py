"""What is no matter of degree: kinds of pairs, rules, and languages that were not learnt."""

from enum import Enum
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.verifier.contrast import contrast
from recollect_server.cache.verifier.features import NAMES
from recollect_server.cache.verifier.history import other_history
from recollect_server.cache.verifier.reading import PHRASE, Pointing, Telling, same_text
from recollect_server.cache.verifier.view import View

_LONG_WORD = 5
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
_ALWAYS = [
    NAMES.index(name) for name in ("values_disordered", "opposed", "negation_differs", "shuffled")
]


class Kind(Enum):
    """What there is to compare; each kind is calibrated by itself."""

    HISTORY = "history"
    ALONE = "alone"
    COUNTED = "counted"
    """Alone, and the same two or more quantities."""
    BROKEN = "broken"
    """A rule says that it is not the same question."""


def judged_kind(asked: View, stored: View, values: NDArray[np.float64]) -> Kind:
    """Return the kind of a pair that is no `other_matter`, with these values of `FEATURES`."""
    broken = other_form(asked, stored, values)
    return Kind.BROKEN if broken else kind_of(asked, stored, values)


def kind_of(asked: View, stored: View, values: NDArray[np.float64]) -> Kind:
    """Return the kind that a pair is learnt and calibrated as, without the other rules."""
    if not (asked.alone and stored.alone):
        return Kind.HISTORY
    if _breaks_a_rule(values):
        return Kind.BROKEN
    return Kind.COUNTED if values[_AGREE] >= 2 else Kind.ALONE


def other_matter(asked: View, stored: View) -> bool:
    """Whether the questions are about something else, which no history makes up for.

    People ask one thing after the other in one form, and after the same greeting: then nothing but
    a word, a name or a number tells the questions apart, and a history that agrees says nothing.
    """
    return (
        _other_names(asked, stored)
        or _other_values(asked, stored)
        or _other_words(asked, stored)
        or contrast(asked.reading, stored.reading)
        or other_history(asked, stored)
    )


def other_form(asked: View, stored: View, values: NDArray[np.float64]) -> bool:
    """Whether the questions say something else about the same."""
    return bool((values[_ALWAYS] > 0).any()) or (
        not (asked.leans or stored.leans) and _breaks_a_rule(values)
    )


def _breaks_a_rule(values: NDArray[np.float64]) -> bool:
    return bool((values[_RULES] > 0).any())


def _other_words(asked: View, stored: View) -> bool:
    """Whether the questions are about different things.

    Both may be about what the other is not, if one of them stands, by a phrase like "the band", for
    what the other one names and its conversation has said before, most of it at least. If only one
    says more, that is said in the other conversation, or the other question leaves it to its
    history.
    """
    more, less = _respelt(asked.telling - stored.telling, stored.telling - asked.telling)
    if more and less:
        a, s = _pointing(more, asked), _pointing(less, stored)
        if a == s:
            return True
        phrase, named, said = (less, more, stored.earlier) if a < s else (more, less, asked.earlier)
        return len(phrase) > PHRASE or 2 * len(named & said) < len(named)
    return bool(
        (asked.own & more - stored.mentioned and not stored.leans)
        or (stored.own & less - asked.mentioned and not asked.leans)
    )


def _pointing(words: frozenset[Telling], view: View) -> Pointing:
    """Return how surely all of these words stand for something said before."""
    return min(view.pointing(word) for word in words)


def _respelt(
    more: frozenset[Telling], less: frozenset[Telling]
) -> tuple[frozenset[Telling], frozenset[Telling]]:
    """Leave out long words that are both there in another spelling."""
    if not more or not less:
        return more, less
    a, s = (
        {_letters(w): w for w in side if isinstance(w, str) and len(w) >= _LONG_WORD}
        for side in (more, less)
    )
    both = a.keys() & s.keys()
    return more - {a[key] for key in both}, less - {s[key] for key in both}


@lru_cache(maxsize=4096)
def _letters(word: str) -> str:
    """Return what "receive" and "recieve", or "happen" and "hapen", have in common."""
    single = [letter for letter, _ in groupby(word)]
    return "".join((single[0], *sorted(single[1:-1]), single[-1]))


def _other_names(asked: View, stored: View) -> bool:
    """Whether each question names what the other does not."""
    a, s = asked.reading.names, stored.reading.names
    return bool(a - stored.own and s - asked.own)


def _other_values(asked: View, stored: View) -> bool:
    """Whether both questions name quantities, and not the same ones.

    One may name a quantity that the other leaves to its history, or counts: "the two".
    """
    a, s = frozenset(asked.values), frozenset(stored.values)
    counted = asked.reading.counted, stored.reading.counted
    if not all(counted):
        a, s = a - counted[0], s - counted[1]
    if not (a and s):
        return False
    missing = set(asked.values) - stored.known_values or set(stored.values) - asked.known_values
    return bool(missing or (a - s and s - a))


def needs_same_words(view: View) -> bool:
    """Whether only words can be sure: it is long, or in a language that the model did not learn."""
    if view.long or view.reading.foreign or view.reading.english < _LEAST_ENGLISH:
        return True
    near = sum(earlier.words for earlier in view.near)
    return sum(earlier.foreign for earlier in view.near) > _MOST_FOREIGN * near


def same_words(asked: View, stored: View) -> bool:
    """Whether question and history are the same texts but for case and punctuation."""
    a, s = asked.conversation, stored.conversation
    return a.roles == s.roles and all(map(same_text, a.texts, s.texts))
