"""Recall files: one JSON object a line, of kind `turn`, `fact` or `question`."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class DataError(ValueError):
    """A file is not what it should be; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of a conversation; `time` is None where the file's is no time."""

    user: str
    session: str
    id: str
    time: datetime | None
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement about a user."""

    user: str
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the ids that answer it."""

    user: str
    text: str
    relevant: frozenset[str]
    category: str


@dataclass(frozen=True, slots=True)
class RecallData:
    """A file, in its order."""

    turns: tuple[Turn, ...]
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]


_FORMATS = (
    "%I:%M %p on %d %B, %Y",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%d %B, %Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%Y-%m",
    "%Y",
)


def parse_time(text: str) -> datetime | None:
    """Return a UTC time of one of the usual spellings, None for any other."""
    cleaned = re.sub(r"\s+", " ", text).strip()
    try:
        parsed = datetime.fromisoformat(cleaned) if len(cleaned) >= 8 else None
    except ValueError:
        parsed = None
    for spelling in _FORMATS if parsed is None else ():
        try:
            parsed = datetime.strptime(cleaned, spelling).replace(tzinfo=UTC)
            break
        except ValueError:
            continue
    if parsed is None or parsed.tzinfo is not None:
        return parsed
    return parsed.replace(tzinfo=UTC)


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f'"{name}" must be a text that is not empty')
    return value


def _turn(record: Mapping[str, Any]) -> Turn:
    return Turn(
        user=_text(record, "user"),
        session=_text(record, "session"),
        id=_text(record, "id"),
        time=parse_time(str(record.get("time", ""))),
        speaker=_text(record, "speaker"),
        text=_text(record, "text"),
    )


def _fact(record: Mapping[str, Any]) -> Fact:
    return Fact(_text(record, "user"), _text(record, "id"), _text(record, "text"))


def _question(record: Mapping[str, Any]) -> Question:
    relevant = record.get("relevant")
    if not isinstance(relevant, list) or not relevant:
        raise ValueError('"relevant" must be a list of ids that is not empty')
    return Question(
        user=_text(record, "user"),
        text=_text(record, "text"),
        relevant=frozenset(map(str, relevant)),
        category=str(record.get("category", "")),
    )


_READERS: dict[str, Callable[[Mapping[str, Any]], Turn | Fact | Question]] = {
    "turn": _turn,
    "fact": _fact,
    "question": _question,
}


def read(path: Path) -> RecallData:
    """Read a file.

    Raises:
        DataError: a line is wrong, or there is nothing to ask or to find.
        OSError: the file cannot be read.
    """
    found: list[Turn | Fact | Question] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or record.get("kind") not in _READERS:
                    raise ValueError('must be an object of "kind" turn, fact or question')
                found.append(_READERS[record["kind"]](record))
            except ValueError as error:
                raise DataError(f"{path}:{number}: {error}") from None
    data = RecallData(
        turns=tuple(item for item in found if isinstance(item, Turn)),
        facts=tuple(item for item in found if isinstance(item, Fact)),
        questions=tuple(item for item in found if isinstance(item, Question)),
    )
    if not data.questions or not (data.turns or data.facts):
        raise DataError(f"{path}: must hold turns or facts, and questions about them")
    return data
