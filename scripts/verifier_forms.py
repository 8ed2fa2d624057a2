"""Pairs of made conversations in which people ask one thing after the other in one form.

The verifier never learns from them. They tell what it does where only a word, a name or a number
says which question it is ("What is the weather like in Oslo?", then in Rome), and where the same is
asked in other words.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from verifier_data import Message, Messages, Pair
from verifier_made import OPENINGS, Questions, read_questions

FORMS = Path(__file__).with_name("verifier_forms.txt")
VALUES, WAYS = 12, 6
"""How many pairs of values, and of ways to ask for one, are taken of a form."""
_ANSWERS = (
    "Here is some answer that goes on for a while.",
    "Sure, here you go: done as you asked.",
    "It depends on a few things, which I can list for you if you like.",
)

Filling = Mapping[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a form, and what its slots were filled with."""

    text: str
    filling: Filling


def _said(chance: random.Random, text: str) -> tuple[Message, Message]:
    return ("user", text), ("assistant", chance.choice(_ANSWERS))


class Histories:
    """What may be said before two questions of a form; each gives both histories."""

    def __init__(self, group: Questions, chance: random.Random) -> None:
        self._group = group
        self._chance = chance

    def all(self, asked: Asked, stored: Asked) -> Iterator[tuple[str, Messages, Messages]]:
        """Yield each kind of history with what was said before either question."""
        one, other = self._chance.sample(OPENINGS, 2)
        turns = self._others(asked, stored)
        yield "none", (), ()
        yield "same greeting", one, one
        yield "other greeting", one, other
        yield "same questions before", turns, turns
        yield "other questions before", (*one, *turns), other
        yield "both named before", *self._both_named(asked, stored)
        if asked.filling != stored.filling:
            yield "the other asked before", (*one, *_said(self._chance, stored.text)), one

    def _others(self, *pair: Asked) -> Messages:
        """Return one or two questions of the form with other values, answered."""
        taken = [each.filling for each in pair]
        free = [filling for filling in self._group.fillings() if filling not in taken]
        some = self._chance.sample(free, min(2, len(free)))
        return tuple(
            message
            for filling in some
            for message in _said(self._chance, self._group.same[0].format(**filling))
        )

    def _both_named(self, asked: Asked, stored: Asked) -> tuple[Messages, Messages]:
        """Return twice what names the values of both, or of one and another."""
        second = stored.filling
        if second == asked.filling:
            second = self._chance.choice([f for f in self._group.fillings() if f != second])
        names = list(dict.fromkeys(each[n] for n in second for each in (asked.filling, second)))
        self._chance.shuffle(names)
        named = _said(self._chance, f"I have questions about {', '.join(names)}.")
        return named, named


def formed(seed: int) -> Iterator[Pair]:
    """Yield the pairs, with the kind of history and what differs as case.

    What differs is the "value", what is "asked" about it, or only the "words": then the answer is
    the same.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    for number, group in enumerate(read_questions(FORMS)):
        histories = Histories(group, chance)
        name = f"form/{number}"
        for asked, stored, same, what in _questions(group, chance):
            for kind, before, after in histories.all(asked, stored):
                one, two = (*before, ("user", asked.text)), (*after, ("user", stored.text))
                yield Pair(one, two, same, name, f"{what}: {kind}")
        yield from _follow_ups(group, name, chance)


def _questions(group: Questions, chance: random.Random) -> Iterator[tuple[Asked, Asked, bool, str]]:
    fillings = group.fillings()
    for one, other in _two(fillings, VALUES, chance):
        way = chance.choice(group.same)
        yield Asked(way.format(**one), one), Asked(way.format(**other), other), False, "value"
        two = chance.choice(group.same)
        yield Asked(way.format(**one), one), Asked(two.format(**other), other), False, "value"
    for filling in chance.sample(fillings, min(WAYS, len(fillings))):
        ways = [Asked(way.format(**filling), filling) for way in group.same]
        for form in group.other:
            other = Asked(form.format(**filling), filling)
            for pair in ((chance.choice(ways), other), (other, chance.choice(ways))):
                yield *pair, False, "asked"
        for asked, stored in _two(ways, WAYS, chance):
            yield asked, stored, True, "words"
        text = chance.choice(ways).text
        yield Asked(text.lower().rstrip("?."), filling), Asked(text, filling), True, "words"


def _follow_ups(group: Questions, name: str, chance: random.Random) -> Iterator[Pair]:
    """Yield questions that only their history completes, beside such and complete ones."""
    fillings = group.fillings()
    for form in group.following:
        for one, other in _two(fillings, VALUES, chance):
            before, after = (_before(group, f, fillings, chance) for f in (one, other))
            text, changed = form.format(**one), form.format(**other)
            full, way = group.same[0].format(**one), chance.choice(group.same)
            asked = (*before, ("user", text))
            yield Pair(asked, (*before, ("user", full)), True, name, "words: follow-up")
            yield Pair((*before, ("user", full)), asked, True, name, "words: follow-up")
            yield Pair(asked, (*after, ("user", changed)), False, name, "value: follow-up")
            whole = (*after, ("user", way.format(**other)))
            yield Pair(asked, whole, False, name, "value: follow-up")
            for what in group.other:
                different = (*before, ("user", what.format(**one)))
                yield Pair(asked, different, False, name, "asked: follow-up")


def _before(
    group: Questions, filling: Filling, fillings: Sequence[Filling], chance: random.Random
) -> Messages:
    """Return what a follow-up follows: a word about it, or the question about something else."""
    if group.before:
        return _said(chance, chance.choice(group.before).format(**filling))
    other = chance.choice([each for each in fillings if each != filling])
    return _said(chance, chance.choice(group.same).format(**other))


def _two(items: Sequence[T], most: int, chance: random.Random) -> list[tuple[T, T]]:
    """Return up to `most` ordered pairs of different items."""
    pairs = [(one, other) for one in items for other in items if one is not other]
    return chance.sample(pairs, min(most, len(pairs)))
