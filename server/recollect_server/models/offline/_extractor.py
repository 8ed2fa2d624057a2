"""Facts without a model: what users say of themselves, word for word."""

import re
from collections.abc import Sequence

from recollect_server.memory.model import ExtractedFact, Message, Role

CONFIDENCE = 0.5
LONGEST = 300
SHORTEST_WORDS = 3

_SENTENCE = re.compile(r"[^.!?\n]+[.!]?(?=\s|$)")
_OF_ONESELF = re.compile(
    r"(?:i\s+(?:am|was|live|work|study|keep|play|drive|teach|have|had|own|like|love|hate|enjoy|"
    r"prefer|use|need|want|speak|grew|moved|started|always|never|usually|do\s+not|don't|can't|cannot)|i'm|i've|"
    r"my\s+\w+(?:\s+\w+)?\s+(?:is|are|was|were|has|have|likes?|works?|lives?))\b",
    re.IGNORECASE,
)


class VerbatimExtractor:
    """Implements `memory.ports.FactExtractor`; English only."""

    extraction_model = "verbatim"

    async def extract(self, messages: Sequence[Message]) -> tuple[ExtractedFact, ...]:
        """See `FactExtractor`; never fails."""
        found: dict[str, ExtractedFact] = {}
        for message in messages:
            if message.role is not Role.USER:
                continue
            for sentence in _SENTENCE.findall(message.text):
                text = " ".join(sentence.split())
                if _OF_ONESELF.match(text) and SHORTEST_WORDS <= len(text.split()) <= LONGEST:
                    fact = ExtractedFact(text, CONFIDENCE, message.sequence, message.sequence)
                    found.setdefault(text, fact)
        return tuple(found.values())
