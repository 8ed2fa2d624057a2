"""Cache files: one JSON object a line, of kind `entry` or `probe`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recollect_server.bench.data import DataError

ROLES = ("user", "assistant", "system")


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a prompt; `role` is one of `ROLES`."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt whose answer is stored; the answer is the id."""

    id: str
    messages: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A prompt that is looked up; `expect` is the entry that answers it, None if there is none."""

    case: str
    messages: tuple[Said, ...]
    expect: str | None


@dataclass(frozen=True, slots=True)
class CacheData:
    """A file, in its order."""

    entries: tuple[Entry, ...]
    probes: tuple[Probe, ...]


def _messages(record: Mapping[str, Any]) -> tuple[Said, ...]:
    given = record.get("messages")
    if not isinstance(given, list) or not given:
        raise ValueError('"messages" must be a list that is not empty')
    said = []
    for message in given:
        role = message.get("role") if isinstance(message, dict) else None
        text = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(text, str) or not text:
            raise ValueError(f'a message must have a "role" of {", ".join(ROLES)} and a "content"')
        said.append(Said(role, text))
    return tuple(said)


def _entry(record: Mapping[str, Any]) -> Entry:
    name = record.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError('"id" must be a text that is not empty')
    return Entry(name, _messages(record))


def _probe(record: Mapping[str, Any]) -> Probe:
    expect = record.get("expect")
    if expect is not None and not isinstance(expect, str):
        raise ValueError('"expect" must be the id of an entry, or null')
    return Probe(str(record.get("case", "")), _messages(record), expect)


_READERS: dict[object, Callable[[Mapping[str, Any]], Entry | Probe]] = {
    "entry": _entry,
    "probe": _probe,
}


def read(path: Path) -> CacheData:
    """Read a file.

    Raises:
        DataError: a line is wrong, or there is nothing to store or to look up.
        OSError: the file cannot be read.
    """
    found: list[tuple[int, Entry | Probe]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                reader = _READERS.get(record.get("kind")) if isinstance(record, dict) else None
                if reader is None:
                    raise ValueError('"kind" must be entry or probe')
                found.append((number, reader(record)))
            except ValueError as error:
                raise DataError(f"{path}:{number}: {error}") from error
    entries = tuple(item for _, item in found if isinstance(item, Entry))
    names = {entry.id for entry in entries}
    for number, item in found:
        if isinstance(item, Probe) and item.expect is not None and item.expect not in names:
            raise DataError(f'{path}:{number}: "expect" names no entry of the file')
    data = CacheData(entries, tuple(item for _, item in found if isinstance(item, Probe)))
    if not data.entries or not data.probes:
        raise DataError(f"{path}: must hold entries and probes")
    return data
