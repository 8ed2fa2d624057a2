"""Summaries without a model: the sentences that say most of a conversation, in their order.

Sentences are scored by how frequent their content words are in the whole text, and picked so that
words already covered count less: SumBasic (Nenkova and Vanderwende, 2005).
"""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence

from recollect_server.memory.model import Message
from recollect_server.memory.tokens import estimate_text

SUMMARY_TOKENS = 300
TITLE_WORDS = 10
LONGEST_SENTENCE = 300
SHORTEST_WORD = 4
MOST_SENTENCES = 200

_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_WORD = re.compile(r"\w+")


class ExtractiveSummarizer:
    """Implements `memory.ports.Summarizer`."""

    summary_model = "extractive"

    async def summarize(self, earlier: str, messages: Sequence[Message]) -> str:
        """See `Summarizer`; never fails."""
        return await asyncio.to_thread(_summarize, earlier, messages)

    async def title(self, summary: str) -> str:
        """See `Summarizer`; the sentence that says most, cut to a few words."""
        sentences = summary.splitlines()
        frequency = _frequency(sentences)
        best = max(sentences, key=lambda sentence: _score(_words(sentence), frequency))
        words = best.partition(": ")[2].split() or best.split()
        return " ".join(words[:TITLE_WORDS])[:LONGEST_SENTENCE]


def _summarize(earlier: str, messages: Sequence[Message]) -> str:
    sentences = [line for line in earlier.splitlines() if line]
    for message in messages:
        speaker = message.author_name or message.role.name.lower()
        sentences += [f"{speaker}: {sentence}" for sentence in _sentences(message.text)]
    sentences = [*dict.fromkeys(sentences)][-MOST_SENTENCES:]
    chosen = _choose(sentences)
    return "\n".join(sentences[position] for position in sorted(chosen)) or "(no text)"


def _sentences(text: str) -> list[str]:
    found = (" ".join(sentence.split()) for sentence in _SENTENCE.findall(text))
    return [sentence[:LONGEST_SENTENCE] for sentence in found if _WORD.search(sentence)]


def _words(sentence: str) -> set[str]:
    words = _WORD.findall(sentence.lower())
    return {word for word in words if len(word) >= SHORTEST_WORD or not word.isascii()}


def _frequency(sentences: Sequence[str]) -> dict[str, float]:
    counts = Counter(word for sentence in sentences for word in _words(sentence))
    total = sum(counts.values()) or 1
    return {word: count / total for word, count in counts.items()}


def _score(words: set[str], frequency: dict[str, float]) -> float:
    return sum(frequency[word] for word in words) / len(words) if words else 0.0


def _choose(sentences: Sequence[str]) -> list[int]:
    """Return positions of the sentences that say most within SUMMARY_TOKENS, at least one."""
    frequency = _frequency(sentences)
    left = {position: _words(sentence) for position, sentence in enumerate(sentences)}
    chosen: list[int] = []
    used = 0
    while left:
        best = max(left, key=lambda position: (_score(left[position], frequency), position))
        words = left.pop(best)
        used += estimate_text(sentences[best]) + 1
        if chosen and used > SUMMARY_TOKENS:
            break
        chosen.append(best)
        for word in words:
            frequency[word] **= 2
    return chosen
