"""Facts without a model: what users say of themselves, word for word."""

import re
from collections.abc import Iterator, Sequence

from recollect_server.memory.model import ExtractedFact, FactKind, Message, Role

CONFIDENCE = 0.5
SHORTEST_WORDS = 3
LONGEST_WORDS = 60
MOST_PER_MESSAGE = 5
"""A pasted text is not a profile."""

_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]*(?=\s|$)")
_INTRODUCTION = re.compile(
    r"^(?:(?:well|so|and|but|also|oh|hi|hello|hey|yes|yeah|no|actually|btw|by the way|please note)"
    r"[,:]?\s+)+(?=(?:i|i'm|i've|my)\b)",
    re.IGNORECASE,
)
_OF_ONESELF = re.compile(
    r"(?:i\s+(?:am|was|live|work|study|keep|play|drive|teach|have|had|own|like|love|hate|dislike|"
    r"enjoy|prefer|use|need|want|plan|speak|grew|moved|started|joined|quit|stopped|always|never|"
    r"usually|no\s+longer|do\s+not|don't|can't|cannot)|i'm|i've|"
    r"my\s+\w+(?:\s+\w+)?\s+(?:is|are|was|were|has|have|likes?|works?|lives?|prefers?|keeps?))\b",
    re.IGNORECASE,
)
_OF_THE_MOMENT = re.compile(
    r"i(?:\s+am|'m)\s+(?:not\s+)?(?:sorry|sure|afraid|glad|happy to|asking|wondering|looking at|"
    r"trying to say|back|here|ready|done|good|fine|ok|okay|going to (?:go|sleep|bed))\b"
    r"|i\s+(?:have|had)\s+(?:a|an|one|another|some|no|two)?\s*(?:more\s+)?(?:quick\s+)?"
    r"(?:questions?|ideas?|doubts?)\b"
    r"|i\s+(?:need|want|would like)\s+(?:you|your|help|to\s+(?:ask|know|see|understand))\b"
    r"|i\s+(?:do\s+not|don't|can't|cannot)\s+(?:know|understand|see|think|believe|remember|tell)\b"
    r"|i\s+(?:like|love)\s+(?:it|that|this)\b|my\s+(?:question|point|bad)\b",
    re.IGNORECASE,
)
# The first that fits says the kind.
_KINDS = (
    (
        FactKind.ISSUE,
        r"\b(?:can't|cannot|won't|doesn't|does not|not)\s+(?:work|start|connect|log|install|"
        r"sleep|find|load|boot|print|open)|\b(?:error|bug|problem|trouble|issue|broken|crash\w*|"
        r"fails?|failing|stuck|hurts?|pain)\b",
    ),
    (
        FactKind.PREFERENCE,
        r"^i\s+(?:really\s+|do\s+not\s+|don't\s+|no\s+longer\s+)?(?:like|love|hate|dislike|enjoy|"
        r"prefer|want|always|never|usually)\b|^my\s+favou?rite\b|\bprefers?\b",
    ),
    (
        FactKind.PROJECT,
        r"\b(?:project|thesis|startup|deadline|release)\b|^i(?:\s+am|'m)\s+(?:building|writing|"
        r"planning|preparing|learning|working on|developing|training for)\b"
        r"|^i\s+(?:plan|started|work on)\b",
    ),
    (
        FactKind.ENVIRONMENT,
        r"^i\s+(?:use|own|drive|keep)\b|^i\s+have\s+(?:an?|two|three|\d+)\b(?!\s+(?:brother|sister|"
        r"son|daughter|child|degree|job))|^my\s+(?:computer|laptop|phone|car|bike|server|editor|"
        r"house|flat|apartment|dog|cat|garden|operating|camera|setup)\b",
    ),
    (
        FactKind.PROFILE,
        r"^i(?:\s+am|\s+was|'m|'ve)\b|^i\s+(?:live|work|study|teach|speak|grew|moved|joined|have|"
        r"had|quit)\b|^my\s+",
    ),
)
_KIND_PATTERNS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _KINDS)


class VerbatimExtractor:
    """Implements `memory.ports.FactExtractor`; it finds nothing in other languages than English."""

    extraction_model = "verbatim"

    async def extract(self, messages: Sequence[Message]) -> tuple[ExtractedFact, ...]:
        """See `FactExtractor`; never fails.

        What is said again is found again: something else may have held in between.
        """
        found: list[ExtractedFact] = []
        for message in messages:
            if message.role is not Role.USER:
                continue
            for text in _statements(message.text):
                if not found or found[-1].text != text:
                    said = (message.sequence,)
                    found.append(ExtractedFact(text, CONFIDENCE, said, message.time, kind_of(text)))
        return tuple(found)


def kind_of(statement: str) -> FactKind:
    """Return what a first-person statement is about, as far as its words tell."""
    plain = statement.replace("\u2019", "'")
    for kind, pattern in _KIND_PATTERNS:
        if pattern.search(plain):
            return kind
    return FactKind.OTHER


def _statements(text: str) -> Iterator[str]:
    """Yield up to MOST_PER_MESSAGE sentences that say something lasting of the speaker."""
    left = MOST_PER_MESSAGE
    for sentence in _SENTENCE.findall(text):
        statement = _INTRODUCTION.sub("", " ".join(sentence.split()))
        plain = statement.replace("\u2019", "'")
        if (
            left
            and not statement.endswith("?")
            and _OF_ONESELF.match(plain)
            and not _OF_THE_MOMENT.match(plain)
            and SHORTEST_WORDS <= len(statement.split()) <= LONGEST_WORDS
        ):
            left -= 1
            yield statement
