"""Made-up conversation: the same seed gives the same texts."""

import random

SHORTEST = 80
LONGEST = 200
"""Bounds of a message in characters; all of them are ASCII."""

_WHO = """I|We|My sister|My brother|A colleague of mine|Our neighbour|The landlord|My doctor|
Grandmother|Our team|The teacher|An old friend|My manager|The carpenter|Cousin Leo""".split("|")
_DID = """booked|finally cancelled|asked me about|forgot|has been planning|paid for|photographed|
talked about|complained about|wants to change|is looking for|repaired|postponed|sold|recommended
""".split("|")
_WHAT = """a table for four|the train tickets|the garden fence|an appointment|a pottery course|
the mountain hut|a second-hand bicycle|the quarterly report|a birthday present|the kitchen window|
swimming lessons|the old piano|a new recipe|the vaccination|a flat with a balcony""".split("|")
_WHERE = """in Lisbon|near the harbour|at the office|behind the station|in the old town|by the lake|
at the market|on the third floor|in the library|next to the bakery""".split("|")
_WHEN = """on Monday|last summer|two weeks ago|before the holidays|in the evening|on 3 May|
after work|at half past nine|every other Friday|since the accident""".split("|")
_PARTS = tuple(tuple(text.strip() for text in part) for part in (_WHO, _DID, _WHAT, _WHERE, _WHEN))


class Texts:
    """An endless source of texts.

    Args:
        seed: two sources of one seed give the same texts.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - texts, not secrets

    def sentence(self) -> str:
        """Return 25 to 85 characters."""
        return " ".join(map(self._random.choice, _PARTS)) + "."

    def message(self) -> str:
        """Return sentences of 80 to 200 characters together."""
        wanted = self._random.randint(SHORTEST, LONGEST - 85)
        text = self.sentence()
        while len(text) < wanted:
            text += " " + self.sentence()
        return text[:LONGEST]

    def paragraph(self, words: int) -> str:
        """Return a line of at least so many words."""
        text = self.sentence()
        while text.count(" ") + 1 < words:
            text += " " + self.sentence()
        return text

    def question(self) -> str:
        """Return a question of some 10 words."""
        who, did, what, where, _ = map(self._random.choice, _PARTS)
        return f"What was it that {who} {did}, {what} or something {where}?"
