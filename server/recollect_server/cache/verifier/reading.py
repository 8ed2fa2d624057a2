"""What the verifier reads in a text: its words, names, quantities and turning words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TypeVar

from recollect_server.cache.verifier.quantities import TOKEN, Quantity, quantities
from recollect_server.memory.recall.words import QUESTION_WORDS, STOP_WORDS, listed, stem, words

_NEGATIONS = listed("not no never none nothing nobody neither nor without cannot unable except")
_OPPOSITES = {
    word: (pair, side)
    for pair, line in enumerate(
        """
        more most greater larger bigger higher longer | less least fewer smaller lower shorter
        before earlier prior | after later afterwards
        am | pm
        first | last final
        best better good | worst worse bad
        increase increases increased increasing raise raises grow gain gains gained rise rises |
          decrease decreases decreased decreasing reduce reduces shrink lose loses lost fall falls
        above over exceed exceeds maximum max most | below under minimum min least
        buy buys bought buying purchase | sell sells sold selling
        pros advantage advantages benefit benefits strength strengths |
          cons disadvantage disadvantages drawback drawbacks risk risks weakness weaknesses
        start begin open opened opening on enable | stop end close closed closing off disable
        add added include including with | remove removed exclude excluding without
        old oldest older | new newest newer young youngest younger
        male man men boy boys he him his | female woman women girl girls she her hers
        left | right
        hot hotter hottest warm | cold colder coldest cool
        fast faster fastest quick | slow slower slowest
        cheap cheaper cheapest | expensive costly dearer
        can able possible | cannot unable impossible
        same similar similarities | different differences difference differ
        up | down
        inside indoor indoors internal | outside outdoor outdoors external
        north northern | south southern
        east eastern | west western
        legal allowed | illegal forbidden banned
        public | private
        cause causes caused | effect effects affect affects
        win wins won | lose loses lost
        import imports imported | export exports exported
        install | uninstall
        encode encrypt | decode decrypt
        always | never
        all every | some none
        """.replace("|\n", "|")
        .strip()
        .splitlines()
    )
    for side, half in enumerate(line.split("|"))
    for word in half.split()
}
_QUALIFIERS = listed(
    """
    only just all every each both either any some except besides another extra additional
    additionally also more less least most fewer other else instead still again remaining rest left
    total average per difference first second third last next previous former latter same different
    best worst main mainly alone together if unless before after since until during without however
    but though although once twice
    """
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_SIGN = re.compile(r"[$+*/=<>^~|#%&@\\]|(?<![\w)])-(?=\s*[\d.])")
"""Signs of ASCII that are words in sums, prices and code."""
_OF_NUMBERS = re.compile(r"(?<=\d)\s?%")
"""What `quantities` read already."""
_SIGNS = frozenset(("Sm", "Sc", "So", "No"))
"""Categories of others: mathematics, currencies, pictures, raised digits."""
_FEW = 5
LONGEST = 2_000
"""Characters of a message that is compared by meaning: of a longer one, a vector knows only the
beginning, and a word that matters may stand anywhere."""
_READ = 20_000
"""Characters that are read of a message before the question."""
_LONG = 15
"""Of more words a text is taken to say itself what its pronouns mean."""
_POINTERS = listed(
    """
    he she they it him them his her hers their theirs its this that these those there former latter
    """
)
_BACKWARD = listed("else other others another also again besides")
"""Words that count on something said before."""
_SHOWING = listed("this that these those")
_DEFINITE = _SHOWING | listed("the its his her their both")
PHRASE = 3
"""How many words after a definite one may say together what is meant."""
_PLACES = listed("one ones option options item items rest next")
"""What is meant by its place in a list: "the second one"."""
_TIMES = listed(
    "today tonight day week weekend month quarter year morning noon afternoon evening night"
)
_LIGHT = listed(
    """
    way ways step steps tip tips kind sort give show tell explain describe help want wanted need
    please try recommend suggest calculate compute determine find figure number amount work works
    use go possible become question answer hi hello thank
    besides aside addition apart else
    """
)
"""Words that only frame a question."""
_EMPTY = STOP_WORDS | _LIGHT
_ENGLISH = STOP_WORDS | _QUALIFIERS


T = TypeVar("T")
Telling = str | float
"""A stem or the value of a quantity: what tells what a question is about."""


class Pointing(IntEnum):
    """How surely words stand for something said before."""

    SAID = 0
    """They say themselves what is meant."""
    DEFINITE = 1
    """ "the band" """
    SHOWN = 2
    """ "that band", "the second one" """


@dataclass(frozen=True, slots=True)
class Reading:
    """A question, read.

    Attributes:
        words: case folded, in order.
        content: stems of the words that carry a topic, in order, repeats kept, quantities left out.
        own: the same without order.
        single: those that the question has once, in order.
        values: of `quantities`.
        sorted_words: `words` without their order.
        names: stems of words with a capital; common words that begin sentences are left out.
        quantities: in order; a bare "one" is none.
        asks: question words.
        negations: how many.
        turns: which side of which pair of opposites is named.
        qualifiers: words that narrow or widen what is asked.
        foreign: words outside the Latin script, in order.
        english: share of the words that are common English ones, 1 of fewer than five.
        points: a pronoun stands for something said before.
        counts_on: a word like "else" or a beginning like "And in" counts on something said before.
        pointing: content that may stand for something said before; no names.
        counted: values of number words after "the", "these" or the like.
        asking: content of the last sentence.
        telling: content words, names and values.
        signs: how often each sign is there that changes what is said.
        asked: it ends with a question mark.
    """

    words: tuple[str, ...]
    content: tuple[str, ...]
    names: frozenset[str]
    quantities: tuple[Quantity, ...]
    asks: frozenset[str]
    negations: int
    turns: frozenset[tuple[int, int]]
    qualifiers: frozenset[str]
    foreign: tuple[str, ...]
    english: float
    points: bool
    counts_on: bool
    pointing: Mapping[str, Pointing]
    counted: frozenset[float]
    asking: frozenset[str]
    own: frozenset[str]
    single: tuple[str, ...]
    values: tuple[float, ...]
    sorted_words: tuple[str, ...]
    telling: frozenset[Telling]
    signs: Mapping[str, int]
    asked: bool


@dataclass(frozen=True, slots=True)
class Gist:
    """What counts of a message before the question.

    Attributes:
        content: stems of the words that carry a topic.
        told: how many there are, repeats counted.
        values: of its quantities.
        words: how many.
        foreign: how many of them are outside the Latin script.
    """

    content: frozenset[str]
    told: int
    values: frozenset[float]
    words: int
    foreign: int


def _latin(word: str) -> bool:
    return ord(word[0]) < 0x0250


def _tokens(normal: str) -> tuple[list[str], list[Quantity], list[str]]:
    """Return the tokens of a text in NFKC, its quantities, and its words in Latin letters."""
    tokens = TOKEN.findall(normal.casefold())
    found, taken = quantities(tokens)
    # "One" is seldom a number.
    counted = [q for q in found if tokens[q.start] != "one" or q.value != 1]
    latin = [t for i, t in enumerate(tokens) if i not in taken and t.isalpha() and _latin(t)]
    return tokens, counted, latin


def _content(latin: list[str]) -> list[str]:
    return [stem(t) for t in latin if t not in _EMPTY]


def _pointing(tokens: list[str]) -> dict[str, Pointing]:
    found: dict[str, Pointing] = {}
    start, left = "", 0
    for place, token in enumerate(tokens):
        if token in _DEFINITE:
            start, left = token, PHRASE
        elif not _PLACES.isdisjoint(tokens[place : place + 2]):
            found[stem(token)] = Pointing.SHOWN
        elif token in _EMPTY or not token.isalpha():
            left = 0
        elif left:
            left -= 1
            # "This week" says itself when that is.
            if start != "this" or token not in _TIMES:
                shown = start in _SHOWING
                found[stem(token)] = Pointing.SHOWN if shown else Pointing.DEFINITE
    return found


def _negates(tokens: list[str], place: int) -> bool:
    word, following = tokens[place], tokens[place + 1 : place + 2]
    if word == "no" and following and following[0][0].isdigit():
        return False  # "No. 5"
    return word in _NEGATIONS or (word == "t" and place > 0 and tokens[place - 1].endswith("n"))


def _goes_on(latin: list[str]) -> bool:
    """Whether it asks like "And in winter?" or "What about dogs?"."""
    return latin[:1] in (["and"], ["any"], ["or"]) or latin[1:2] == ["about"]


def _counted(tokens: list[str], counted: list[Quantity]) -> Iterator[float]:
    for quantity in counted:
        word = tokens[quantity.start]
        if word.isalpha() and quantity.start and tokens[quantity.start - 1] in _DEFINITE:
            yield quantity.value


def _foreign(normal: str, folded: list[str]) -> list[str]:
    return [] if normal.isascii() else [word for word in folded if not _latin(word)]


def signs(text: str) -> Mapping[str, int]:
    """Return how often a text has each sign that changes what is said."""
    found = _SIGN.findall(text)
    if not text.isascii():
        found += [c for c in text if not c.isascii() and unicodedata.category(c) in _SIGNS]
    return Counter(found)


def same_text(one: str, other: str) -> bool:
    """Whether texts are the same but for case and punctuation, in any script."""
    if one == other:
        return True
    said = _plain(one)
    return bool(said) and said == _plain(other) and signs(one) == signs(other)


def _plain(text: str) -> list[str]:
    folded = unicodedata.normalize("NFC", text).casefold()
    kept = (c if unicodedata.category(c)[0] in "LMNS" else " " for c in folded)
    return "".join(kept).split()


def _names(text: str) -> frozenset[str]:
    tokens = TOKEN.findall(text)
    capitals = (token for token in tokens if token[0].isupper())
    # "May" is a month more often than not.
    return frozenset(
        stem(t.casefold()) for t in capitals if t.casefold() not in _EMPTY or t == "May"
    )


def single(items: Sequence[T]) -> list[T]:
    """Return those that are there once, in order."""
    counts = Counter(items)
    return [item for item in items if counts[item] == 1]


@lru_cache(maxsize=16_384)
def gist(text: str) -> Gist:
    """Read the beginning of a message before the question.

    Those of up to 16,384 recent calls are kept.
    """
    normal = unicodedata.normalize("NFKC", text[:_READ])
    _, counted, latin = _tokens(normal)
    content, folded = _content(latin), words(normal)
    return Gist(
        content=frozenset(content),
        told=len(content),
        values=frozenset(q.value for q in counted),
        words=len(folded),
        foreign=len(_foreign(normal, folded)),
    )


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """Read a message of up to `LONGEST` characters; those of up to 4,096 recent calls are kept."""
    normal = unicodedata.normalize("NFKC", text)
    tokens, counted, latin = _tokens(normal)
    folded = words(normal)
    names, content = _names(normal), _content(latin)
    return Reading(
        words=tuple(folded),
        content=tuple(content),
        names=names,
        quantities=tuple(counted),
        asks=frozenset(t for t in latin if t in QUESTION_WORDS),
        negations=sum(_negates(tokens, place) for place in range(len(tokens))),
        turns=frozenset(_OPPOSITES[t] for t in latin if t in _OPPOSITES),
        qualifiers=frozenset(t for t in latin if t in _QUALIFIERS),
        foreign=tuple(_foreign(normal, folded)),
        english=sum(t in _ENGLISH for t in latin) / len(latin) if len(latin) >= _FEW else 1.0,
        points=len(latin) < _LONG and any(t in _POINTERS for t in latin),
        counts_on=any(t in _BACKWARD for t in latin) or _goes_on(latin),
        pointing={word: how for word, how in _pointing(tokens).items() if word not in names},
        counted=frozenset(_counted(tokens, counted)),
        asking=frozenset(
            stem(t)
            for t in TOKEN.findall(_SENTENCES.split(normal.casefold().strip())[-1])
            if t not in STOP_WORDS and t.isalpha() and _latin(t)
        ),
        own=frozenset(content),
        single=tuple(single(content)),
        values=tuple(quantity.value for quantity in counted),
        sorted_words=tuple(sorted(folded)),
        telling=names.union(content, (quantity.value for quantity in counted)),
        signs=signs(_OF_NUMBERS.sub("", text)),
        asked=normal.rstrip().endswith("?"),
    )
