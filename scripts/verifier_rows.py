"""Compares the conversations that the verifier learns from: rows of features with what is right."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from verifier_data import (
    Messages,
    Pair,
    Source,
    asked_instead,
    edited,
    group_of,
    read_source,
)
from verifier_forms import formed
from verifier_made import conversed, made

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier import candidate_vector
from recollect_server.cache.verifier.features import compare
from recollect_server.cache.verifier.rules import kind_of, other_form, other_matter
from recollect_server.cache.verifier.view import View
from recollect_server.memory.model import Role
from recollect_server.models.minilm import MiniLmEmbedder

DATA_SEED = 1
CANDIDATES = 4

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """Compared pairs of one source.

    Attributes:
        features: shape (n, columns); the other arrays have n entries.
        probe: number of the probe of a pair, -1 in pairs that are no candidates of a probe.
        other: a rule says that it is another question; models learn from it, thresholds do not.
    """

    features: Array
    same: Array
    kind: Array
    group: Array
    probe: Array
    case: Array
    other: Array

    def where(self, chosen: Array) -> "Rows":
        """Return some of the rows."""
        return Rows(*(getattr(self, name)[chosen] for name in Rows.__slots__))


@dataclass(frozen=True, slots=True)
class Learning:
    """What is learnt from one source; `expected` counts the probes that have an entry."""

    name: str
    rows: Rows
    edits: Rows | None
    expected: Mapping[str, int]


class Vectors:
    """Vectors by text, kept in a file between runs."""

    def __init__(self, embedder: MiniLmEmbedder) -> None:
        self.model = embedder.model
        self._embedder = embedder
        self._path = Path(tempfile.gettempdir()) / f"recollect-verifier-{embedder.model}.npz"
        self._known: dict[str, Array] = {}
        if self._path.exists():
            with np.load(self._path) as stored:
                self._known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    async def learn(self, texts: set[str]) -> None:
        """Embed those that are new and write the file."""
        missing = sorted((t for t in texts if _key(t) not in self._known), key=len)
        if not missing:
            return
        print(f"embedding {len(missing)} texts")
        vectors = await self._embedder.embed(missing)
        self._known.update(zip(map(_key, missing), vectors, strict=True))
        keys = np.array(list(self._known))
        np.savez(self._path, keys=keys, vectors=np.stack(list(self._known.values())))

    def view(self, messages: Messages) -> View:
        """Return a conversation to be compared."""
        return View(
            Conversation(
                tuple(Role[role.upper()] for role, _ in messages),
                tuple(text for _, text in messages),
                np.stack([self._known[_key(text)] for _, text in messages]),
                self.model,
            )
        )


def edited_share(source: Source) -> float:
    """Return which share of a source's probes is edited: less of larger ones."""
    return 0.25 if len(source.probes) > 2_000 else 0.7 if len(source.entries) > 155 else 1.0


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(compared: Iterator[tuple[View, View, bool, str, int, str]]) -> Rows:
    features, same, kind, group, probe, case, other = [], [], [], [], [], [], []
    for asked, stored, right, pair_group, number, pair_case in compared:
        (values,) = compare(asked, [stored])
        features.append(values)
        same.append(right)
        kind.append(kind_of(asked, stored, values).value)
        group.append(pair_group)
        probe.append(number)
        case.append(pair_case)
        other.append(other_matter(asked, stored) or other_form(asked, stored, values))
    return Rows(*map(np.array, (features, same, kind, group, probe, case, other)))


def candidates(source: Source, vectors: Vectors) -> Rows:
    """Compare every probe with the entries nearest to it."""
    ids = list(source.entries)
    stored = [vectors.view(messages) for messages in source.entries.values()]
    matrix = np.stack([candidate_vector(view.conversation) for view in stored])

    def compared() -> Iterator[tuple[View, View, bool, str, int, str]]:
        for number, probe in enumerate(source.probes):
            view = vectors.view(probe.messages)
            nearest = np.argsort(-(matrix @ candidate_vector(view.conversation)))[:CANDIDATES]
            group = group_of(probe.expect or ids[nearest[0]])
            for place in nearest:
                right = ids[place] == probe.expect
                yield view, stored[place], right, group, number, probe.case

    return _rows(compared())


def pairs(given: Sequence[Pair], vectors: Vectors) -> Rows:
    """Compare pairs; each is a probe of its own."""
    return _rows(
        (vectors.view(p.asked), vectors.view(p.stored), p.same, p.group, number, p.case)
        for number, p in enumerate(given)
    )


def joined(rows: Rows, more: Rows) -> Rows:
    """Return the rows of both; the probes of `more` are others."""
    more = replace(more, probe=more.probe + rows.probe.max() + 1)
    return Rows(*(np.concatenate([getattr(r, n) for r in (rows, more)]) for n in Rows.__slots__))


async def read(paths: Sequence[Path]) -> tuple[list[Learning], list[Learning], str]:
    """Read the sources and compare all pairs.

    Returns:
        What is learnt from, what is only measured, and the embedder's name.
    """
    embedder = MiniLmEmbedder()
    vectors = Vectors(embedder)
    sources = [read_source(path) for path in paths]
    edits = {s.name: list(edited(s, DATA_SEED, edited_share(s))) for s in sources}
    questions = list(made(DATA_SEED))
    tests = {"conversed": list(conversed(DATA_SEED)), "forms": list(formed(DATA_SEED))}
    conversations = [
        c for s in sources for c in (*s.entries.values(), *(p.messages for p in s.probes))
    ]
    instead = {s.name: list(asked_instead(s, DATA_SEED)) for s in sources}
    given = (*edits.values(), *instead.values(), questions, *tests.values())
    every = [pair for some in given for pair in some]
    conversations += [c for pair in every for c in (pair.asked, pair.stored)]
    await vectors.learn({text for messages in conversations for _, text in messages})
    await embedder.close()
    learning = []
    for source in sources:
        expected: dict[str, int] = {}
        for probe in source.probes:
            expected[probe.case] = expected.get(probe.case, 0) + (probe.expect is not None)
        rows = candidates(source, vectors)
        if instead[source.name]:
            rows = joined(rows, pairs(instead[source.name], vectors))
        changed = pairs(edits[source.name], vectors)
        learning.append(Learning(source.name, rows, changed, expected))
    rows = pairs(questions, vectors)
    print("compared", flush=True)
    learning.append(Learning("made", rows, None, {"made_same": int(rows.same.sum())}))
    measured = [_measured(name, pairs(some, vectors)) for name, some in tests.items()]
    return learning, measured, embedder.model


def _measured(name: str, rows: Rows) -> Learning:
    return Learning(name, rows, None, {"same": int(rows.same.sum())})
