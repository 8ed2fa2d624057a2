"""Made questions: those that the verifier learns from, and the same in conversations."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from verifier_data import Messages, Pair, reword

QUESTIONS = Path(__file__).with_name("verifier_questions.txt")
ASSIGNMENTS = 16
"""How many ways to fill the slots of a group of questions are taken."""


@dataclass(frozen=True, slots=True)
class Questions:
    """A group of `verifier_questions.txt` or `verifier_forms.txt`, which say what the lines are."""

    same: Sequence[str]
    other: Sequence[str]
    qualifiers: Sequence[str]
    before: Sequence[str]
    following: Sequence[str]
    slots: Mapping[str, Sequence[str]]

    def fillings(self) -> list[Mapping[str, str]]:
        """Return every way to fill the slots."""
        return [
            dict(zip(self.slots, values, strict=True)) for values in product(*self.slots.values())
        ]


def read_questions(path: Path = QUESTIONS) -> list[Questions]:
    """Read the groups of the file."""
    groups = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        marked: dict[str, list[str]] = {mark: [] for mark in ("= ", "~ ", "+ ", "< ", "> ")}
        slots = {}
        for line in lines:
            if line[:2] in marked:
                marked[line[:2]].append(line[2:])
            else:
                name, values = line.split(": ", 1)
                slots[name] = values.split(" | ")
        if lines:
            groups.append(Questions(*marked.values(), slots))
    return groups


def _qualified(text: str, tail: str) -> str:
    end = len(text.rstrip("?."))
    return f"{text[:end]} {tail}{text[end:]}"


def made(seed: int) -> Iterator[Pair]:
    """Yield pairs of made questions without a history, both ways round."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for number, group in enumerate(read_questions()):
        fillings = group.fillings()
        for filling in chance.sample(fillings, min(ASSIGNMENTS, len(fillings))):
            for asked, stored, same, case in _fill(group, filling, chance):
                one, two = (("user", asked),), (("user", stored),)
                yield Pair(one, two, same, f"made/{number}", case)
                yield Pair(two, one, same, f"made/{number}", case)


OPENINGS: Sequence[Messages] = (
    (("user", "Hi"), ("assistant", "Hello! How can I help you today?")),
    (("user", "Good morning"), ("assistant", "Good morning! What can I do for you?")),
    (("user", "Are you there?"), ("assistant", "Yes, I'm here. Ask me anything.")),
    (("user", "I have a few questions."), ("assistant", "Sure, go ahead.")),
    (("user", "Can you help me with something?"), ("assistant", "Of course. What is it?")),
    (("user", "Thanks, that was useful!"), ("assistant", "You're welcome. Anything else?")),
    (("user", "ok"), ("assistant", "Great. Let me know what you would like to do next.")),
    (
        ("user", "Please keep your answers short."),
        ("assistant", "Understood, I will be brief from now on."),
    ),
    (
        ("user", "Start"),
        (
            "assistant",
            "Welcome! I am the assistant of your bank. I can tell you about accounts, cards, "
            "loans, transfers, savings and opening hours, or connect you with a colleague.",
        ),
    ),
    (
        ("user", "Hello, who are you?"),
        (
            "assistant",
            "I'm an assistant that answers questions about travel, food, health, work, sports, "
            "music and everyday life. I may be wrong, so please check what matters to you.",
        ),
    ),
)
"""What people say before they ask, and what tells nothing about it."""
_ANSWERS = (
    "Here you go: {}", "That depends on a few things. Shall I list them?", "About that: {}",
    "I looked it up and this is the short answer.", "Done.", "Yes, with some exceptions.",
)  # fmt: skip


def conversed(seed: int) -> Iterator[Pair]:
    """Yield pairs of made questions after histories that do not tell what the question means.

    The histories are the same, or not, or a question of the same kind was answered before:
    assistants are asked one thing after the other in one form. Questions say all themselves, so
    that other histories do not make them others.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    pairs = list(made(seed))
    by_group: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_group.setdefault(pair.group, []).append(pair)
    for pair in pairs:
        ((_, asked),), ((_, stored),) = pair.asked, pair.stored
        opening = _opening(pairs, chance)
        before, after = opening, opening
        case = pair.case.replace("made", "conversed")
        if pair.same:
            # A question that says all itself has the same answer after anything.
            before = chance.choice((opening, opening, _opening(pairs, chance)))
        elif chance.random() < 0.4:
            before = (*opening, ("user", stored), ("assistant", _answer_to(stored, chance)))
        elif chance.random() < 0.3:
            _, other = chance.choice(by_group[pair.group]).asked[-1]
            both = (("user", other), ("assistant", _answer_to(other, chance)))
            if other not in (asked, stored):
                before, after = (*opening, *both), (*opening, *both)
        yield Pair(
            (*before, ("user", asked)), (*after, ("user", stored)), pair.same, pair.group, case
        )


def _opening(pairs: Sequence[Pair], chance: random.Random) -> Messages:
    """Return a greeting, or a question about something else with its answer."""
    if chance.random() < 0.6:
        return chance.choice(OPENINGS)
    _, text = chance.choice(pairs).asked[-1]
    return (("user", text), ("assistant", _answer_to(text, chance)))


def _answer_to(text: str, chance: random.Random) -> str:
    return chance.choice(_ANSWERS).format(text)


def _fill(
    group: Questions, filling: Mapping[str, str], chance: random.Random
) -> Iterator[tuple[str, str, bool, str]]:
    ways = [way.format(**filling) for way in group.same]
    for place, way in enumerate(ways):
        for other in ways[place + 1 :]:
            yield other, way, True, "made_same"
        yield reword(way, chance), way, True, "made_same"
    for other in group.other:
        yield other.format(**filling), chance.choice(ways), False, "made_other"
    for tail in group.qualifiers:
        way = chance.choice(ways)
        yield _qualified(way, tail), way, False, "made_qualifier"
        yield _qualified(way, tail), chance.choice(ways), False, "made_qualifier"
    for name, values in group.slots.items():
        new = chance.choice([value for value in values if value != filling[name]])
        changed = {**filling, name: new}
        place = chance.randrange(len(ways))
        yield group.same[place].format(**changed), ways[place], False, "made_slot"
        yield chance.choice(group.same).format(**changed), ways[place], False, "made_slot"
