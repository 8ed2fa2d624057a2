"""What a statement says, as far as rules can tell: who, what, and whether it is denied.

Two statements are compared by their words alone, so the rules only speak where they can hardly be
wrong: the same words, one that goes on where the other ends, another value of something that has
one value, and the same thing asserted and denied. They know English; in other languages statements
are equal or unrelated.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from recollect_server.memory.recall.words import listed, terms, words


class Relation(Enum):
    """What a new statement is to one that is held."""

    UNRELATED = "unrelated"
    SAME = "same"
    LESS = "less"
    """The one held says it, and more."""
    MORE = "more"
    """It says what the one held says, and more."""
    CONTRADICTS = "contradicts"


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that has one value at a time, or is so or not.

    Attributes:
        about: subject and attribute; claims about different things are unrelated.
        value: what is said of it.
    """

    about: tuple[str, ...]
    value: tuple[str, ...]


_CONTRACTED = (
    (re.compile(r"\bcan't\b"), "can not"),
    (re.compile(r"\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bi'm\b"), "i am"),
    (re.compile(r"\bi've\b"), "i have"),
    (re.compile(r"\bi'd\b"), "i would"),
    (re.compile(r"\bi'll\b"), "i will"),
    (re.compile(r"\bthe user's\b|\buser's\b"), "my"),
    (re.compile(r"\bthe user\b"), "i"),
)
_TOKEN = re.compile(r"[^\W_]+(?:['.+#\-/@:&][^\W_]+)*[+#%]*|[,;]")
_FILLERS = listed("really actually currently now just also well yes yeah")
_BASE = {
    "am": "be", "is": "be", "are": "be", "has": "have", "does": "do", "lives": "live",
    "living": "live", "works": "work", "working": "work", "likes": "like", "loves": "love",
    "enjoys": "enjoy", "prefers": "prefer", "hates": "hate", "dislikes": "dislike",
    "uses": "use", "owns": "own", "wants": "want", "needs": "need", "speaks": "speak",
    "plays": "play", "drives": "drive", "eats": "eat", "drinks": "drink", "smokes": "smoke",
    "studies": "study", "favorite": "favourite", "resides": "live", "based": "live",
}  # fmt: skip
_ARTICLES = listed("a an the")
_MARKS = listed(", ;")
_INDEFINITE = listed("a an my our his her their one two three some with peace fear hope")
_LIMITS = listed("not no never less only but except unless until if anymore longer without")
_GOES_ON = listed(", ; and with near in at on since because for from by as while during")

_ONE_OF_A_KIND = listed("wife husband partner spouse mother mom mum father dad boss fiance fiancee")
_ONE_VALUE = listed(
    "name nickname age birthday address city hometown country email phone timezone height "
    "occupation profession employer"
)
_ONE_VALUE_OF_TWO = {
    ("time", "zone"), ("job", "title"), ("home", "address"), ("email", "address"),
    ("phone", "number"), ("home", "town"), ("native", "language"), ("birth", "date"),
}  # fmt: skip
_STATES = {
    "single": "marriage", "married": "marriage", "engaged": "marriage", "divorced": "marriage",
    "widowed": "marriage", "vegan": "diet", "vegetarian": "diet", "pescatarian": "diet",
}  # fmt: skip
_PLACES = {"live": listed("in at"), "work": listed("at for as")}
_OTHER_WORDS = {
    "live": "live moved relocated",
    "age": "age years old",
    "marriage": " ".join(state for state, about in _STATES.items() if about == "marriage"),
    "diet": " ".join(state for state, about in _STATES.items() if about == "diet"),
}
_LIKING = {"like": True, "love": True, "enjoy": True, "hate": False, "dislike": False}
_ASSERTED = listed("use own have eat drink smoke speak play drive want need live work study")
_LONGEST_SUBJECT = 4


def normal_form(text: str) -> str:
    """The text without differences of case, width, spacing and final full stops.

    It is stored with every fact, as a digest: to change it takes a migration.
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(".!。 ") or folded


def related(one: str, other: str) -> bool:
    """Whether two statements share a word with a topic."""
    return not _topics(one).isdisjoint(_topics(other))


def other_words(text: str) -> str:
    """Return the words in which another value of what a statement tells may be said, or ""."""
    claim = claim_of(_tokens(text))
    about = claim.about if claim is not None else ()
    return next((_OTHER_WORDS[word] for word in about if word in _OTHER_WORDS), "")


def relation(new: str, held: str) -> Relation:
    """Return what a new statement is to one that is held."""
    if normal_form(new) == normal_form(held):
        return Relation.SAME
    ours, theirs = _tokens(new), _tokens(held)
    if not ours or not theirs:
        return Relation.UNRELATED
    if _plain(ours) == _plain(theirs):
        return Relation.SAME
    if _continues(theirs, ours) and not _LIMITS & set(ours[len(theirs) :]):
        return Relation.MORE
    if _continues(ours, theirs) and not _LIMITS & set(theirs[len(ours) :]):
        return Relation.LESS
    claim, before = claim_of(ours), claim_of(theirs)
    if claim is not None and before is not None and claim.about == before.about:
        return Relation.CONTRADICTS if claim.value != before.value else Relation.UNRELATED
    return _by_polarity(ours, theirs)


@lru_cache(maxsize=4096)
def _topics(text: str) -> frozenset[str]:
    return frozenset(terms(words(text)))


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    """Words in order, the user as `i` and `my`, verbs in their base form, commas kept."""
    folded = normal_form(text).replace("\u2019", "'")
    for pattern, plain in _CONTRACTED:
        folded = pattern.sub(plain, folded)
    found = [_BASE.get(word, word) for word in _TOKEN.findall(folded)]
    found = [word for word in found if word not in _FILLERS]
    if found[:1] == ["i"] and found[1:2] == ["be"] and found[2:3] == ["live"]:
        del found[1]
    return tuple(found)


def _plain(tokens: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(token for token in tokens if token not in _ARTICLES | _MARKS)


def _continues(shorter: tuple[str, ...], longer: tuple[str, ...]) -> bool:
    """Whether one goes on where the other ends, at the end of a phrase: not tea, tea cup."""
    size = len(shorter)
    starts = 2 < size < len(longer) and longer[:size] == shorter
    return starts and longer[size] in _GOES_ON


def claim_of(tokens: tuple[str, ...]) -> Claim | None:
    """Return what is claimed of something that has one value, if anything is."""
    return _of_the_user(tokens) or _of_an_attribute(tokens) or _of_a_person(tokens)


def _of_the_user(tokens: tuple[str, ...]) -> Claim | None:
    if tokens[:1] != ("i",):
        return None
    match tokens[1:]:
        case ("move" | "moved" | "relocated", "to", *place) | ("have", "moved", "to", *place):
            return _placed(("i", "live", "in"), tuple(place))
        case ("be", state) if state in _STATES:
            return Claim(("i", _STATES[state]), (state,))
        case ("be", number, "year" | "years", "old") | ("be", number) if number.isdecimal():
            return Claim(("i", "age"), (number,))
        case (verb, preposition, *value) if preposition in _PLACES.get(verb, ()):
            where = "at" if verb == "work" and preposition == "for" else preposition
            return _placed(("i", verb, where), tuple(value))
    return None


def _placed(about: tuple[str, ...], value: tuple[str, ...]) -> Claim | None:
    """Return the claim, unless the value says of what kind a place is and not which one."""
    head = _head(value)
    as_what = about[-1] == "as"
    if not head or (head[0] in _INDEFINITE and not as_what):
        return None
    return Claim(about, _plain(head))


def _of_an_attribute(tokens: tuple[str, ...]) -> Claim | None:
    if tokens[:1] != ("my",) or "be" not in tokens[2:]:
        return None
    at = tokens.index("be", 2)
    attribute, value = tokens[1:at], _head(tokens[at + 1 :])
    single = (
        (len(attribute) == 1 and attribute[0] in _ONE_VALUE)
        or attribute in _ONE_VALUE_OF_TWO
        or (attribute[0] == "favourite" and 2 <= len(attribute) <= _LONGEST_SUBJECT)
    )
    if not single or not value or value[0] in _LIMITS:
        return None
    if attribute == ("age",):
        return Claim(("i", "age"), value[:1])
    return Claim(("my", *attribute), _plain(value))


def _of_a_person(tokens: tuple[str, ...]) -> Claim | None:
    """As of the user, of one person: the only one of a kind, or named."""
    if tokens[:1] != ("my",):
        return None
    for verb, prepositions in _PLACES.items():
        if verb in tokens[2:-2]:
            at = tokens.index(verb, 2)
            person = tokens[1:at]
            known = person[0] in _ONE_OF_A_KIND if len(person) == 1 else len(person) == 2
            if known and tokens[at + 1] in prepositions:
                return _placed(("my", *person, verb, tokens[at + 1]), tokens[at + 2 :])
    return None


def _head(value: tuple[str, ...]) -> tuple[str, ...]:
    """The value up to where something else is said."""
    for position, token in enumerate(value):
        if position and token in _GOES_ON:
            return value[:position]
    return value


def _by_polarity(ours: tuple[str, ...], theirs: tuple[str, ...]) -> Relation:
    one, other = _asserted(ours), _asserted(theirs)
    if one is None or other is None or one[0] != other[0]:
        return Relation.UNRELATED
    return Relation.CONTRADICTS if one[1] != other[1] else Relation.UNRELATED


def _asserted(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], bool] | None:
    """Return what the user says of something and whether it is so, None if it is no such thing."""
    if tokens[:1] != ("i",):
        return None
    rest, so = list(tokens[1:]), True
    if rest[:2] == ["do", "not"] or rest[:2] == ["no", "longer"]:
        rest, so = rest[2:], False
    elif rest[:1] == ["never"]:
        rest, so = rest[1:], False
    if rest[-1:] == ["anymore"]:
        rest = rest[:-1]
    elif rest[-2:] == ["any", "more"]:
        rest = rest[:-2]
    if len(rest) < 2:
        return None
    verb, what = rest[0], _plain(tuple(rest[1:]))
    if verb in _LIKING:
        return ("like", *what), so == _LIKING[verb]
    return ((verb, *what), so) if verb in _ASSERTED else None
