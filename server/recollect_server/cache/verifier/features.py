"""The numbers by which the verifier compares two conversations."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier.quantities import Quantity
from recollect_server.cache.verifier.reading import Reading, read
from recollect_server.cache.verifier.vectors import last_answer, mean_of
from recollect_server.memory.model import Role

_NEAR = 4
"""How many messages before the question may hold what the question leaves out."""

_RECENT = 6
_TELLING = 6
"""An answer of so many content words tells what a conversation is about."""
_ENOUGH = 12
_LEAST_ENGLISH = 0.1
_MOST_FOREIGN = 0.2


class View:
    """A conversation with everything that comparisons read of it, each computed once."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    @cached_property
    def question(self) -> NDArray[np.float32]:
        """Vector of the last message."""
        question: NDArray[np.float32] = self.conversation.vectors[-1]
        return question

    @cached_property
    def history(self) -> NDArray[np.float32]:
        """Mean direction of the earlier messages."""
        return mean_of(self.conversation.vectors[:-1])

    @cached_property
    def users(self) -> NDArray[np.float32]:
        """Mean direction of the user's earlier messages."""
        return mean_of(self.earlier_questions)

    @cached_property
    def answer(self) -> NDArray[np.float32]:
        """Vector of the last answer."""
        return last_answer(self.conversation)

    @cached_property
    def recent(self) -> NDArray[np.float32]:
        """Mean direction of the last messages, the question included."""
        return mean_of(self.conversation.vectors[-_RECENT:])

    @cached_property
    def reading(self) -> Reading:
        """The question, read."""
        return read(self.conversation.texts[-1])

    @cached_property
    def near(self) -> tuple[Reading, ...]:
        """The messages just before the question, read."""
        return tuple(read(text) for text in self.conversation.texts[-1 - _NEAR : -1])

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Content words of the question and of what is near it."""
        return frozenset(w for r in (self.reading, *self.near) for w in r.content)

    @cached_property
    def said(self) -> frozenset[str]:
        """Content words of what is near the question, without its own."""
        return frozenset(w for r in self.near for w in r.content)

    @cached_property
    def answer_content(self) -> int:
        """How many content words the last answer has."""
        roles = self.conversation.roles
        for place in range(len(roles) - 2, -1, -1):
            if roles[place] is Role.ASSISTANT:
                return len(read(self.conversation.texts[place]).content)
        return 0

    @cached_property
    def values(self) -> frozenset[float]:
        """Values of the quantities of the question and of what is near it."""
        return frozenset(q.value for r in (self.reading, *self.near) for q in r.quantities)

    @cached_property
    def own(self) -> frozenset[str]:
        """Content words of the question."""
        return frozenset(self.reading.content)

    @cached_property
    def placed(self) -> NDArray[np.float32]:
        """The question together with what was said just before it, as one direction."""
        before = mean_of(self.conversation.vectors[-1 - _NEAR : -1])
        return mean_of(np.stack([self.question, before]))

    @cached_property
    def earlier_questions(self) -> NDArray[np.float32]:
        """Vectors of the user's earlier messages, oldest first."""
        roles = self.conversation.roles[:-1]
        places = [place for place, role in enumerate(roles) if role is Role.USER]
        earlier: NDArray[np.float32] = self.conversation.vectors[places]
        return earlier

    @property
    def alone(self) -> bool:
        """Nothing was said before the question."""
        return len(self.conversation.texts) == 1


@dataclass(frozen=True, slots=True)
class Feature:
    """A number and how it may count.

    Attributes:
        direction: 1 if more of it may only make a hit likelier, -1 less likely, 0 either.
    """

    name: str
    direction: int
    compute: Callable[[View, View], float]


def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(a @ b)


def _part(asked: View, stored: View, a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    # Two that both have nothing there agree.
    return 1.0 if asked.alone and stored.alone else float(a @ b)


def _history(asked: View, stored: View) -> float:
    return _part(asked, stored, asked.history, stored.history)


def _answer(asked: View, stored: View) -> float:
    """Similarity of the last answers, as far as they say something that could tell them apart."""
    similar = _part(asked, stored, asked.answer, stored.answer)
    said = min(asked.answer_content, stored.answer_content)
    return similar if asked.alone else similar * min(1.0, said / _TELLING)


def _shared_history(asked: View, stored: View) -> int:
    """How many words both histories have, up to 12; 12 without histories."""
    if asked.alone and stored.alone:
        return _ENOUGH
    return min(_ENOUGH, len(asked.said & stored.said))


def _question(asked: View, stored: View) -> float:
    return _dot(asked.question, stored.question)


def _turns_matched(asked: View, stored: View) -> float:
    """How well each earlier message is met by one of the other side, mean of both directions."""
    if asked.alone or stored.alone:
        return float(asked.alone and stored.alone)
    similar = asked.conversation.vectors[-1 - _RECENT : -1] @ (
        stored.conversation.vectors[-1 - _RECENT : -1].T
    )
    return float(similar.max(axis=0).mean() + similar.max(axis=1).mean()) / 2


def _asked_before(one: View, other: View) -> float:
    """How near the one's question is to an earlier one of the other, beyond its last; 0 if less."""
    if not len(other.earlier_questions):
        return 0.0
    earlier = float((other.earlier_questions[-_NEAR:] @ one.question).max())
    return max(0.0, earlier - _question(one, other))


def _previous_question(asked: View, stored: View) -> float:
    a, s = asked.earlier_questions, stored.earlier_questions
    if not len(a) or not len(s):
        return float(len(a) == len(s))
    return _dot(a[-1], s[-1])


def _aligned(asked: View, stored: View) -> float:
    """Least similarity of the earlier messages that are as far from the question, up to four."""
    count = min(len(asked.conversation.texts), len(stored.conversation.texts), 1 + _NEAR) - 1
    if not count:
        return float(asked.alone and stored.alone)
    a, s = asked.conversation.vectors[-1 - count : -1], stored.conversation.vectors[-1 - count : -1]
    return float((a * s).sum(axis=1).min())


def _placed(asked: View, stored: View) -> float:
    """Similarity of the questions where one may say what the other leaves to its history."""
    return max(
        _question(asked, stored),
        _dot(asked.question, stored.placed),
        _dot(asked.placed, stored.question),
    )


def _dangling(asked: View, stored: View) -> bool:
    """Nothing was said that a pronoun of either question could mean."""
    return asked.alone and stored.alone and (asked.reading.points or stored.reading.points)


def _asking(view: View) -> frozenset[str]:
    return frozenset(view.reading.asking)


def _new(one: View, other: View) -> list[str]:
    """Content words of a question that the other conversation does not have, in order."""
    return [word for word in one.reading.content if word not in other.vocabulary]


def _share_new(one: View, other: View) -> float:
    return len(_new(one, other)) / max(1, len(one.reading.content))


def _longest_run(one: View, other: View) -> int:
    longest = run = 0
    for word in one.reading.content:
        run = 0 if word in other.vocabulary else run + 1
        longest = max(longest, run)
    return longest


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 1.0


def _common(asked: View, stored: View) -> tuple[list[str], list[str]]:
    """The words that occur once in either question, in the order of each."""
    a, b = Counter(asked.reading.content), Counter(stored.reading.content)
    shared = {word for word in a if a[word] == 1 == b[word]}
    return (
        [word for word in asked.reading.content if word in shared],
        [word for word in stored.reading.content if word in shared],
    )


def _disorder(first: Sequence[object], second: Sequence[object]) -> float:
    """Share of neighbouring pairs of the first sequence that the second has the other way round."""
    if len(first) < 2:
        return 0.0
    places = {item: place for place, item in enumerate(second)}
    pairs = list(pairwise(first))
    return sum(places[a] > places[b] for a, b in pairs) / len(pairs)


def _values(view: View) -> list[float]:
    return [quantity.value for quantity in view.reading.quantities]


def _missing_values(one: View, other: View) -> int:
    return sum(value not in other.values for value in set(_values(one)))


def _value_difference(asked: View, stored: View) -> int:
    a, b = Counter(_values(asked)), Counter(_values(stored))
    return ((a - b) + (b - a)).total()


def _values_agree(asked: View, stored: View) -> int:
    """How many quantities the questions share, if they have no other; at most 4."""
    return 0 if _value_difference(asked, stored) else min(4, len(_values(asked)))


def _values_disordered(asked: View, stored: View) -> float:
    a, b = _values(asked), _values(stored)
    single = {v for v in a if a.count(v) == 1 == b.count(v)}
    return _disorder([v for v in a if v in single], [v for v in b if v in single])


def _least_context(asked: View, stored: View) -> float:
    """Of the shared quantities, the least overlap of the words beside them; 1 without any."""
    scores = []
    for quantity in asked.reading.quantities:
        same = [q for q in stored.reading.quantities if q.value == quantity.value]
        if same:
            scores.append(max(_beside(quantity, other) for other in same))
    return min(scores, default=1.0)


def _beside(a: Quantity, b: Quantity) -> float:
    least = min(len(a.beside), len(b.beside))
    return len(a.beside & b.beside) / least if least else 1.0


def _new_names(one: View, other: View) -> int:
    return len(one.reading.names - other.vocabulary)


def _renamed(asked: View, stored: View) -> int:
    return min(_new_names(asked, stored), _new_names(stored, asked))


def _only_added(asked: View, stored: View) -> bool:
    """One question says all that the other says, and more."""
    return bool(_new(asked, stored)) != bool(_new(stored, asked))


def _replaced(asked: View, stored: View) -> int:
    return min(len(set(_new(asked, stored))), len(set(_new(stored, asked))))


def _opposed(asked: View, stored: View) -> int:
    a, b = asked.reading.turns, stored.reading.turns
    return sum((pair, 1 - side) in b and (pair, side) not in b for pair, side in a)


def _negation_differs(asked: View, stored: View) -> int:
    return abs(asked.reading.negations - stored.reading.negations)


def _qualifiers_differ(asked: View, stored: View) -> int:
    return len(asked.reading.qualifiers ^ stored.reading.qualifiers)


def _asks_differently(asked: View, stored: View) -> int:
    return len(asked.reading.asks ^ stored.reading.asks)


def _same_words(asked: View, stored: View) -> bool:
    return asked.reading.words == stored.reading.words


def _shuffled(asked: View, stored: View) -> bool:
    """The same words in another order."""
    return not _same_words(asked, stored) and sorted(asked.reading.words) == sorted(
        stored.reading.words
    )


def _length(asked: View, stored: View) -> float:
    a, b = len(asked.reading.words), len(stored.reading.words)
    return min(a, b) / max(a, b, 1)


FEATURES = (
    Feature("question", 1, _question),
    Feature("history", 1, _history),
    Feature("user_history", 1, lambda a, s: _part(a, s, a.users, s.users)),
    Feature("last_answer", 1, _answer),
    Feature("recent", 1, lambda a, s: _dot(a.recent, s.recent)),
    Feature("turns_matched", 1, _turns_matched),
    Feature("question_x_history", 1, lambda a, s: _question(a, s) * _history(a, s)),
    Feature("question_x_answer", 1, lambda a, s: _question(a, s) * _answer(a, s)),
    Feature("asked_before", -1, _asked_before),
    Feature("stored_before", -1, lambda a, s: _asked_before(s, a)),
    Feature("previous_question", 1, _previous_question),
    Feature("aligned", 1, _aligned),
    Feature("placed", 1, _placed),
    Feature("shared_history", 1, _shared_history),
    Feature("dangling", -1, _dangling),
    Feature("new_asked", -1, _share_new),
    Feature("new_stored", -1, lambda a, s: _share_new(s, a)),
    Feature("run_asked", -1, _longest_run),
    Feature("run_stored", -1, lambda a, s: _longest_run(s, a)),
    Feature("replaced", -1, _replaced),
    Feature("one_sided", -1, lambda a, s: abs(len(_new(a, s)) - len(_new(s, a)))),
    Feature("only_added", -1, _only_added),
    Feature("asking", 1, lambda a, s: _overlap(_asking(a), _asking(s))),
    Feature("overlap", 1, lambda a, s: _overlap(a.own, s.own)),
    Feature("disorder", -1, lambda a, s: _disorder(*_common(a, s))),
    Feature("same_words", 1, _same_words),
    Feature("shuffled", -1, _shuffled),
    Feature("length", 1, _length),
    Feature("missing_values_asked", -1, _missing_values),
    Feature("missing_values_stored", -1, lambda a, s: _missing_values(s, a)),
    Feature("value_difference", -1, _value_difference),
    Feature("values_agree", 1, _values_agree),
    Feature("values_disordered", -1, _values_disordered),
    Feature("quantity_context", 1, _least_context),
    Feature("quantities", 0, lambda a, s: len(a.reading.quantities)),
    Feature("new_names_asked", -1, _new_names),
    Feature("new_names_stored", -1, lambda a, s: _new_names(s, a)),
    Feature("renamed", -1, _renamed),
    Feature("opposed", -1, _opposed),
    Feature("negation_differs", -1, _negation_differs),
    Feature("qualifiers_differ", -1, _qualifiers_differ),
    Feature("asks_differently", -1, _asks_differently),
)
"""What is compared, in the order of the model's columns."""

NAMES = tuple(feature.name for feature in FEATURES)


def compare(asked: View, stored: View) -> NDArray[np.float64]:
    """Return the values of `FEATURES` for a pair, shape (len(FEATURES),)."""
    return np.array([feature.compute(asked, stored) for feature in FEATURES], np.float64)


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
"""Features of which none may be over 0 where nothing but the questions can be compared."""

_RULES = [NAMES.index(name) for name in RULES]
_AGREE = NAMES.index("values_agree")


class Kind(Enum):
    """What there is to compare; each kind is calibrated by itself."""

    HISTORY = "history"
    ALONE = "alone"
    COUNTED = "counted"
    """Alone, and the same two or more quantities."""
    BROKEN = "broken"
    """Alone, and a rule says that it is not the same question."""


def kind_of(asked: View, stored: View, values: NDArray[np.float64]) -> Kind:
    """Return the kind of a pair with these values of `FEATURES`."""
    if not (asked.alone and stored.alone):
        return Kind.HISTORY
    if (values[_RULES] > 0).any():
        return Kind.BROKEN
    return Kind.COUNTED if values[_AGREE] >= 2 else Kind.ALONE


def needs_same_words(asked: View, stored: View) -> bool:
    """Whether a pair is in a language that the model did not learn: then only words can be sure."""
    for view in (asked, stored):
        if view.reading.foreign or view.reading.english < _LEAST_ENGLISH:
            return True
        near = sum(len(r.words) for r in view.near)
        if sum(len(r.foreign) for r in view.near) > _MOST_FOREIGN * near:
            return True
    return False


def same_words(asked: View, stored: View) -> bool:
    """Whether question and history say the same, message by message, but for case and signs."""
    a, s = asked.conversation, stored.conversation
    return a.roles == s.roles and all(
        one == other or (bool(read(one).words) and read(one).words == read(other).words)
        for one, other in zip(a.texts, s.texts, strict=True)
    )
