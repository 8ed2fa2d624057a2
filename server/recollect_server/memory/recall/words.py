"""Words as the index compares them: folded, stemmed, without those that carry no topic."""

import re
import threading
import unicodedata
from functools import lru_cache

import snowballstemmer

# Scripts written without spaces: Thai, Lao, Burmese, Khmer, kana and Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"
)
# Vowel signs and the like, which Python's \w leaves out though they stand inside words.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_LETTER = rf"(?![{_UNSPACED}])[^\W_]"
_WORD = re.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)"
    rf"|\d+(?:[.,]\d+)+(?!{_LETTER})"
    rf"|{_LETTER}(?:{_LETTER}|[{_MARKS}])*"
)
# The same for a text in ASCII alone, of which most are: several times as fast.
_ASCII_WORD = re.compile(r"\d+(?:[.,]\d+)+(?![a-z0-9])|[a-z0-9]+")

_QUESTION_MARKS = ("?", "？", "؟")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？؟])\s*(?=\S)")

# One stemmer a script. Other languages in Latin letters get the English one: it is the same on
# both sides, so equal words stay equal.
_STEMMERS = {
    range(0x0250): "english",
    range(0x0370, 0x0400): "greek",
    range(0x0400, 0x0530): "russian",
    range(0x0530, 0x0590): "armenian",
    range(0x0600, 0x0700): "arabic",
    range(0x0900, 0x0980): "hindi",
    range(0x0B80, 0x0C00): "tamil",
}
_stemmers = {name: snowballstemmer.stemmer(name) for name in _STEMMERS.values()}
# A Snowball stemmer keeps the word it works on as state.
_stemming = threading.Lock()


def listed(text: str) -> frozenset[str]:
    """The words of a list written as a text."""
    return frozenset(text.split())


QUESTION_WORDS = listed("what when where who whom whose which why how did does do done")
"""Words that ask; they say what kind of answer is wanted, not what it is about."""

STOP_WORDS = QUESTION_WORDS | listed(
    """
    a about after again all also am an and any are aren as at be because been before being both
    but by can cannot could couldn d didn doesn doing don down during each few for from further
    get got had hadn has hasn have haven having he her here hers herself him himself his hm hmm i
    if in into is isn it its itself just know let like ll m many may me might more most much must
    my myself no nor not now of off oh ok okay on once one only or other our ours ourselves out
    over own please re really s said same say says shall she should shouldn so some such t tell
    than thanks that the their theirs them themselves then there these they thing things think
    this those through to too under until up us ve very was wasn we well were weren while will
    with won would wouldn yeah yes you your yours yourself yourselves
    """
)
"""English words without a topic, contractions split at their apostrophe."""

# Stemmers cut endings; these change inside. Base form first.
_CHANGING = """
    begin began begun; become became; bend bent; break broke broken; bring brought; build built;
    buy bought; catch caught; choose chose chosen; come came; dig dug; draw drew drawn;
    drink drank drunk; drive drove driven; eat ate eaten; fall fell fallen; feed fed; feel felt;
    fight fought; find found; fly flew flown; forget forgot forgotten; give gave given;
    go went gone going goes; grow grew grown; hang hung; hear heard; hide hid hidden; hold held;
    keep kept; know knew known; lead led; leave left; lend lent; lose lost; make made; meet met;
    pay paid; ride rode ridden; rise rose risen; run ran; see saw seen; seek sought; sell sold;
    send sent; shake shook shaken; shoot shot; sing sang sung; sit sat; sleep slept;
    speak spoke spoken; spend spent; stand stood; steal stole stolen; stick stuck;
    strike struck; swim swam swum; take took taken; teach taught; tear tore torn; tell told;
    think thought; throw threw thrown; understand understood; wake woke woken; wear wore worn;
    win won; write wrote written; child children; foot feet; life lives; man men; mouse mice;
    person people; tooth teeth; wife wives; woman women
"""
_BASE = {
    form: base for base, *forms in (line.split() for line in _CHANGING.split(";")) for form in forms
}


def words(text: str) -> list[str]:
    """The text's words in order: NFKC, case folded, Latin letters without accents.

    Runs of a script written without spaces give each character and each pair of neighbours, so
    that a word is found wherever it begins.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).casefold()):
        word = match.group()
        if match.lastgroup == "unspaced":
            found.extend(word)
            found.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            found.append(word if word.isascii() else _without_accents(word))
    return found


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The Snowball stem of a word as `words` gives it, of its base form where that is irregular."""
    word = _BASE.get(word, word)
    point = ord(word[0])
    for script, name in _STEMMERS.items():
        if point in script:
            with _stemming:
                return str(_stemmers[name].stemWord(word))
    return word


def asking(text: str) -> float:
    """The share of the text that is questions, 0 to 1; 0 for one that does not end by asking.

    A long message that tells something and then asks about it is hardly a question.
    """
    sentences = _SENTENCE_END.split(text.strip())
    if not sentences[-1].endswith(_QUESTION_MARKS):
        return 0.0
    asked = sum(len(sentence) for sentence in sentences if sentence.endswith(_QUESTION_MARKS))
    return asked / sum(map(len, sentences))


def terms(found: list[str]) -> list[str]:
    """Stems of the words that carry a topic, in order, repeats kept."""
    return [stem(word) for word in found if word not in STOP_WORDS]


def _without_accents(word: str) -> str:
    if ord(word[0]) >= 0x0250:
        return word
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
