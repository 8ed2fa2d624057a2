"""Pairs of conversations that the verifier learns from and is measured on.

Probes of the answer cache's benchmark files with the entries nearest to them, edits of those probes
that change what is asked, and other questions asked after their histories. Made questions are in
`verifier_made.py` and `verifier_forms.py`.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recollect_server.memory.recall.words import words

Message = tuple[str, str]
"""Role, "user" or "assistant", and text."""

Messages = tuple[Message, ...]

OTHER_QUESTION = "other_question"
"""The case of pairs that share a history and ask different things."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A conversation that is looked up; `expect` is the entry that answers it, or None."""

    case: str
    messages: Messages
    expect: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A benchmark file."""

    name: str
    entries: Mapping[str, Messages]
    probes: Sequence[Probe]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two conversations and whether the answer to one answers the other.

    Attributes:
        group: pairs of one group are never split between training and test.
    """

    asked: Messages
    stored: Messages
    same: bool
    group: str
    case: str


def read_source(path: Path) -> Source:
    """Read a file of `recollect bench cache`."""
    entries: dict[str, Messages] = {}
    probes: list[Probe] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        messages = tuple((m["role"], m["content"]) for m in row["messages"])
        if row["kind"] == "entry":
            entries[row["id"]] = messages
        else:
            probes.append(Probe(row["case"], messages, row["expect"]))
    return Source(path.stem.removeprefix("context_cache_"), entries, probes)


# --- edits -----------------------------------------------------------------------------------

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_AUXILIARY = re.compile(r"\b(is|are|was|were|did|does|do|can|could|should|will|would|has|have)\b")
_TAIL = re.compile(
    r" (?:in|for|with|without|during|before|after|from|at|about|on|than) [^,.?!]{3,40}(?=\?$)"
)
_SWAPS = """
    who when; when where; where why; why how; first last; best worst; more fewer; most least;
    before after; old young; large small; long short; high low; start end; begin stop; win lose;
    increase decrease; good bad; first second; earlier later; all some; always never; men women;
    husband brother; mother father; son daughter; born die; cause effect; advantages disadvantages;
    album song; film book; team coach; wrote read; buy sell; north south; children parents
""".split(";")
_OTHER = {a: b for pair in _SWAPS for a, b in (pair.split(), pair.split()[::-1])}
_ANY_OTHER = re.compile(rf"\b({'|'.join(_OTHER)})\b")
_QUALIFIED = (
    "in 1985", "in Europe", "for beginners", "without any help", "for children", "only in winter",
    "besides the first one", "in the early years", "according to critics", "compared with others",
    "for less than $100", "if it rains", "on weekends", "outside the United States", "at night",
    "for the second time", "in more detail than before", "after the war", "as a percentage",
)  # fmt: skip

Edit = Callable[[str, random.Random, Sequence[str]], str | None]


def _at_random(pattern: re.Pattern[str], text: str, chance: random.Random) -> re.Match[str] | None:
    found = list(pattern.finditer(text))
    return chance.choice(found) if found else None


def _put(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


def _number(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    match = _at_random(_NUMBER, text, chance)
    if match is None:
        return None
    value = float(match.group())
    new = chance.choice((value + 1, value * 2, value * 10, value + 0.5, max(0.0, value - 2)))
    return _put(text, match, f"{new:g}") if new != value else None


def _name(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    match = _at_random(_NAME, text, chance)
    names = [m.group() for other in others for m in _NAME.finditer(other)]
    if match is None or not names:
        return None
    new = chance.choice(names)
    return _put(text, match, new) if new != match.group() else None


def _negate(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    match = _AUXILIARY.search(text)
    if match is None or " not " in text or "n't" in text:
        return None
    rest = text[match.end() :].split(" ", 2)
    if len(rest) < 3:
        return None
    return f"{text[: match.end()]} {rest[1]} not {rest[2]}"


def _opposite(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    match = _at_random(_ANY_OTHER, text, chance)
    return _put(text, match, _OTHER[match.group()]) if match else None


def _add(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    tails = [m.group().strip() for other in others if (m := _TAIL.search(other))]
    tail = (
        chance.choice([*tails, *_QUALIFIED]) if chance.random() < 0.6 else chance.choice(_QUALIFIED)
    )
    end = len(text.rstrip("?.! "))
    return f"{text[:end]} {tail}{text[end:]}" if tail.lower() not in text.lower() else None


def _drop(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    match = _TAIL.search(text)
    return _put(text, match, "") if match and match.start() > 12 else None


def _replace(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    match = _at_random(re.compile(r"\b[a-z]{5,}\b"), text, chance)
    words = [w for other in others for w in re.findall(r"\b[a-z]{5,}\b", other)]
    if match is None or not words:
        return None
    new = chance.choice(words)
    return _put(text, match, new) if new != match.group() else None


def _swap(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    found = [*_NUMBER.finditer(text)] if len(_NUMBER.findall(text)) > 1 else [*_NAME.finditer(text)]
    if len(found) < 2:
        return None
    first, second = found[0], found[-1]
    if first.group() == second.group():
        return None
    return (
        text[: first.start()] + second.group() + text[first.end() : second.start()]
        + first.group() + text[second.end() :]
    )  # fmt: skip


EDITS: Mapping[str, Edit] = {
    "number": _number,
    "name": _name,
    "negation": _negate,
    "opposite": _opposite,
    "qualifier": _add,
    "dropped": _drop,
    "replaced": _replace,
    "swapped": _swap,
}
"""Ways to change what a question asks."""

_WRAPS = (
    "Can you tell me: {}", "{} Please answer.", "Hi, {}", "I would like to know: {}",
    "Quick question: {}", "{} Thanks!", "Hello! {}", "Please tell me, {}",
)  # fmt: skip
_LONG = {"What's": "What is", "what's": "what is", "don't": "do not", "didn't": "did not",
         "I'm": "I am", "it's": "it is", "isn't": "is not", "can't": "cannot"}  # fmt: skip


def reword(text: str, chance: random.Random) -> str:
    """Say a question in another way by what surely does not change it."""
    for short, long in _LONG.items():
        if short in text:
            text = text.replace(short, long)
        elif long in text:
            text = text.replace(long, short)
    if chance.random() < 0.3:
        text = text.rstrip("?.! ").lower()
    return chance.choice(_WRAPS).format(text) if chance.random() < 0.7 else text


def edited(source: Source, seed: int, share: float) -> Iterator[Pair]:
    """Yield pairs of which one question was changed, and some that were said in another way.

    Args:
        share: of the probes that should hit, how many are edited.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    questions = [probe.messages[-1][1] for probe in source.probes]
    for probe in source.probes:
        if probe.expect is None or chance.random() > share:
            continue
        stored = source.entries[probe.expect]
        text = probe.messages[-1][1]
        for history in (probe.messages[:-1], ()):
            old = stored if history or len(stored) == 1 else (("user", text),)
            for case, edit in chance.sample(list(EDITS.items()), len(EDITS)):
                new = edit(text, chance, chance.sample(questions, min(8, len(questions))))
                # What is dropped may be what the history says.
                if new in (None, text, old[-1][1]) or (history and case == "dropped"):
                    continue
                if new is not None:
                    changed = (*history, ("user", new))
                    yield Pair(changed, old, False, group_of(probe.expect), f"edit_{case}")
            same = (*history, ("user", reword(text, chance)))
            for _ in range(2):
                yield Pair(same, old, True, group_of(probe.expect), "edit_none")


def asked_instead(source: Source, seed: int) -> Iterator[Pair]:
    """Yield for each probe with a history a pair that asks something else after that history.

    The other question is one of the same conversation that shares less than half of its words.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    asked: dict[str, dict[str, None]] = {}
    for probe in source.probes:
        if probe.expect is not None:
            asked.setdefault(group_of(probe.expect), {})[probe.messages[-1][1]] = None
    for probe in source.probes:
        if probe.expect is None or len(probe.messages) == 1:
            continue
        stored, group = source.entries[probe.expect], group_of(probe.expect)
        known = [probe.messages[-1][1], stored[-1][1]]
        others = [text for text in asked[group] if not any(_alike(text, one) for one in known)]
        if others:
            changed = (*probe.messages[:-1], ("user", chance.choice(others)))
            yield Pair(changed, stored, False, group, OTHER_QUESTION)


def _alike(one: str, other: str) -> bool:
    a, b = set(words(one)), set(words(other))
    return 2 * len(a & b) >= min(len(a), len(b))


def group_of(entry_id: str) -> str:
    """Return the conversation that an entry's id names: what stands before its last "/"."""
    return (
        entry_id.rsplit("/", 1)[0]
        if entry_id.count("/") and not entry_id.startswith("gsm")
        else entry_id
    )
