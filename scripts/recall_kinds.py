"""Kinds of conversation made of other files' texts, to see whether recall holds on them too.

None is as good as real data of its kind; they guard against a rank that suits one kind only.

- threads: friends who keep two subjects going at once, so that a turn's neighbour says little.
- user_long: one of two friends becomes the user and tells of themselves beside a request; the
  other becomes an assistant whose answers of 300 to 800 words are about the same. Questions of
  that user are asked in the first person.
- answers_long: the answer that is asked for stands somewhere in 300 to 800 words about the same.
- facts_told: personal statements, told by the way in chats about other subjects with long answers;
  a request should find those that matter to it.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import Role, Vector
from recollect_server.memory.ports import IndexItem

Embed = Callable[[Sequence[str]], Awaitable[list[Vector]]]

LONG_ANSWER = (300, 800)
PARAGRAPH_WORDS = 40
REQUEST_WORDS = 7
NEAREST = 12


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the ids of the items that answer it."""

    text: str
    relevant: frozenset[str]
    category: str


@dataclass(slots=True)
class Person:
    """One user's items and questions."""

    items: list[IndexItem] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


People = Mapping[str, Person]


def paragraphs(path: Path) -> list[str]:
    """The longer assistant messages of a file of entries with `messages`, each once."""
    found: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        for message in json.loads(line)["messages"]:
            text = message["content"]
            if message["role"] == "assistant" and len(text.split()) >= PARAGRAPH_WORDS:
                found[text] = None
    return list(found)


class Padding:
    """Texts to make a message longer with, the nearest in meaning first.

    Args:
        texts: at least a few dozen.
    """

    def __init__(self, texts: Sequence[str], embed: Embed, seed: int = 1) -> None:
        self._texts = texts
        self._embed = embed
        self.random = random.Random(seed)  # noqa: S311  # reproducible, not secret

    async def nearest(self, texts: Sequence[str]) -> list[list[str]]:
        """For each text some of the nearest other ones, in random order."""
        pool = np.stack(await self._embed(self._texts))
        rows: list[list[str]] = []
        for text, vector in zip(texts, await self._embed(texts), strict=True):
            order: NDArray[np.intp] = np.argsort(-(pool @ vector))[: NEAREST + 1]
            near = [self._texts[i] for i in order.tolist() if self._texts[i] != text]
            self.random.shuffle(near)
            rows.append(near)
        return rows

    async def long_answers(self, texts: Sequence[str], *, first: bool) -> list[str]:
        """Each text with others around it, or only after it if `first`."""
        answers = []
        for text, near in zip(texts, await self.nearest(texts), strict=True):
            wanted = self.random.randint(*LONG_ANSWER)
            parts = [text]
            while near and sum(len(part.split()) for part in parts) < wanted:
                parts.append(near.pop())
            if not first:
                parts.insert(self.random.randrange(len(parts)), parts.pop(0))
            answers.append("\n\n".join(parts))
        return answers


def threads(people: People) -> dict[str, Person]:
    """The second half of each session's turns between those of the first."""
    made = {}
    for user, person in people.items():
        items: list[IndexItem] = []
        for session in _sessions(person.items).values():
            half = (len(session) + 1) // 2
            turns = session[:half] + session[half:]
            turns[::2], turns[1::2] = session[:half], session[half:]
            items += turns
        made[user] = Person(_numbered(items), person.questions)
    return made


async def user_long(people: People, requests: Padding, padding: Padding) -> dict[str, Person]:
    """One friend of each two as the user, in turns the first and the second by name."""
    made = {}
    for number, (user, person) in enumerate(people.items()):
        names = sorted({item.speaker for item in person.items})
        me, other = names[number % 2], names[1 - number % 2]
        mine = [item for item in person.items if item.speaker == me]
        theirs = [item for item in person.items if item.speaker != me]
        texts = {}
        asked = await requests.nearest([item.text for item in mine])
        for item, near in zip(mine, asked, strict=True):
            said = re.sub(rf"\b{other}\b", "there", item.text)
            chance = requests.random.random()
            before = f"{near[0]} By the way, {said}" if chance < 0.4 else said
            texts[item.item_id] = f"{said} {near[0]}" if 0.4 <= chance < 0.6 else before
        bare = [re.sub(rf"\b{me}\b", "there", item.text) for item in theirs]
        answers = await padding.long_answers(bare, first=True)
        texts |= {item.item_id: text for item, text in zip(theirs, answers, strict=True)}
        told = {item.item_id for item in mine}
        made[user] = Person(
            [_as_chat(item, texts[item.item_id], me) for item in person.items],
            [
                replace(question, text=_first_person(question.text, me))
                for question in person.questions
                if question.relevant <= told and me in question.text and other not in question.text
            ],
        )
    return made


async def answers_long(people: People, padding: Padding) -> dict[str, Person]:
    """The same chats with long answers."""
    made = {}
    for user, person in people.items():
        answers = [item for item in person.items if item.role is Role.ASSISTANT]
        longer = await padding.long_answers([item.text for item in answers], first=False)
        texts = {item.item_id: text for item, text in zip(answers, longer, strict=True)}
        items = [replace(i, text=texts.get(i.item_id, i.text)) for i in person.items]
        made[user] = Person(items, person.questions)
    return made


def facts_told(facts: People, chats: People, seed: int = 1) -> dict[str, Person]:
    """Each user's facts in six sessions of others, about subjects that the user has none of.

    A subject is the number that the name of a user and of a session (after its user's) have first.
    """
    chance = random.Random(seed)  # noqa: S311  # reproducible, not secret
    sessions = {}
    for person in chats.values():
        sessions |= _sessions(person.items)
    made = {}
    for user, person in facts.items():
        elsewhere = sorted(s for s in sessions if _subject(s.split("/")[-1]) != subject_of(user))
        items = [i for s in chance.sample(elsewhere, min(6, len(elsewhere))) for i in sessions[s]]
        said = [number for number, item in enumerate(items) if item.role is Role.USER]
        where = {}
        for fact, number in zip(person.items, chance.sample(said, len(person.items)), strict=True):
            text = items[number].text
            told = [f"{fact.text} {text}", f"{text} By the way, {fact.text}"]
            items[number] = replace(items[number], text=chance.choice(told))
            where[fact.item_id] = items[number].item_id
        questions = [
            replace(question, relevant=frozenset(where[fact] for fact in question.relevant))
            for question in person.questions
        ]
        made[user] = Person(_numbered(items), questions)
    return made


def subject_of(user: str) -> str:
    """The subject in a user's name: `any-9-1` gives 9."""
    return _subject(user.partition("-")[2])


def _subject(name: str) -> str:
    return name.partition("-")[0]


def _sessions(items: Sequence[IndexItem]) -> dict[str, list[IndexItem]]:
    sessions: dict[str, list[IndexItem]] = defaultdict(list)
    for item in items:
        sessions[item.session_id].append(item)
    return sessions


def _numbered(items: Sequence[IndexItem]) -> list[IndexItem]:
    return [replace(item, sequence=number) for number, item in enumerate(items, 1)]


def _as_chat(item: IndexItem, text: str, me: str) -> IndexItem:
    role = Role.USER if item.speaker == me else Role.ASSISTANT
    return replace(item, text=text, role=role, speaker=role.name.lower())


def _first_person(question: str, name: str) -> str:
    question = re.sub(rf"\b{name}['’]s?\b", "my", question)
    question = re.sub(rf"\bdoes {name}\b", "do I", question, flags=re.IGNORECASE)
    question = re.sub(rf"\bis {name}\b", "am I", question, flags=re.IGNORECASE)
    question = re.sub(rf"\bhas {name}\b", "have I", question, flags=re.IGNORECASE)
    return re.sub(rf"\b{name}\b", "I", question)
