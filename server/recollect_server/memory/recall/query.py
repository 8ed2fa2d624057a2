"""What a question asks for, read once: its words, the people and dates it names."""

import re
from dataclasses import dataclass
from datetime import datetime

from recollect_server.memory.model import Role
from recollect_server.memory.recall.corpus import Corpus
from recollect_server.memory.recall.dates import NamedDate, asks_for_time, named_dates
from recollect_server.memory.recall.periods import Period, named_periods
from recollect_server.memory.recall.words import STOP_WORDS, terms, words

_WORD = re.compile(r"(?P<word>\w+)(?:['’]s\b)?")
# The pronouns that name the two sides of a chat, where the question looks back.
_LOOKS_BACK = {
    Role.USER: re.compile(
        r"\b(?:did|do|have|had|am|was|were) i\b"
        # "Where is my flat?" and "the song I played", but no request for advice about them.
        r"|^\W*(?:what|who|whose|where|when|which|how)\b"
        r"(?!.*\b(?:you|can|could|should|would|might|about)\b)"
        r".*\b(?:my|i (?:\w+ed|got|bought|went|made|took|saw|met|said|told|gave|found|wrote))\b",
        re.IGNORECASE,
    ),
    Role.ASSISTANT: re.compile(
        r"\b(?:did|have|had|were) you\b"
        r"|\byou(?:['’]ve)? (?:said|told|gave|wrote|suggested|recommended|mentioned|listed)\b",
        re.IGNORECASE,
    ),
}


@dataclass(frozen=True, slots=True)
class Query:
    """A question against one corpus.

    Attributes:
        embedding_text: what to embed: the text without the names of people who speak in the
            corpus, because they would dominate the vector.
        terms: distinct stems of its content words without those names, in order.
        speakers: speakers of the corpus that it names.
        roles: roles that it names by "I" or "you".
        dates: the dates that it names.
        periods: the times that it names from the present, such as yesterday.
        asks_for_time: its answer is a time.
    """

    text: str
    embedding_text: str
    terms: tuple[str, ...]
    speakers: frozenset[str]
    roles: frozenset[Role]
    dates: tuple[NamedDate, ...]
    periods: tuple[Period, ...]
    asks_for_time: bool


def analyse(text: str, corpus: Corpus, now: datetime | None = None) -> Query:
    """Read a question as one about this corpus.

    Args:
        now: when it is asked; without it, "yesterday" says nothing.
    """
    text = text.strip()
    bare, stems, speakers = _read(text, corpus)
    return Query(
        text=text,
        embedding_text=bare,
        terms=stems,
        speakers=frozenset(speakers),
        roles=frozenset(role for role, asks in _LOOKS_BACK.items() if asks.search(text)),
        dates=named_dates(text),
        periods=() if now is None else named_periods(text, now),
        asks_for_time=asks_for_time(text),
    )


def question_text(text: str, corpus: Corpus) -> str:
    """Return the `Query.embedding_text` of a question."""
    return _read(text.strip(), corpus)[0]


def _read(text: str, corpus: Corpus) -> tuple[str, tuple[str, ...], set[str]]:
    """Return what to embed, the distinct terms in order, and the speakers that are named."""
    bare, speakers = _without_names(text, corpus)
    distinct = tuple(dict.fromkeys(terms(words(bare))))
    if not distinct:
        # A question about nothing but a person: the name is all there is to look for.
        bare, distinct = text, tuple(dict.fromkeys(terms(words(text))))
    return bare, distinct, speakers


def _without_names(text: str, corpus: Corpus) -> tuple[str, set[str]]:
    names = corpus.names()
    speakers: set[str] = set()

    def drop(match: re.Match[str]) -> str:
        word = match["word"]
        named = {n for n in names.get(word.casefold(), ()) if _names(word, n)}
        speakers.update(named)
        return "" if named else match.group()

    return re.sub(r"\s+", " ", _WORD.sub(drop, text)).strip(), speakers


def _names(word: str, speaker: str) -> bool:
    """Whether a word of a speaker's name, found in a text, means the speaker.

    As it is written it does. In another case it does when it is the whole name and not also a
    common word: "will" is not Will, nor "support" Support Bot.
    """
    whole = speaker.casefold() == word.casefold() and word.casefold() not in STOP_WORDS
    return whole or re.search(rf"\b{word}\b", speaker) is not None
