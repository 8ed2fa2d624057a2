"""One user's items in memory, laid out for ranking: incremental to change, quick to read."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import FactKind, MemoryKind, Role, Vector
from recollect_server.memory.ports import IndexItem
from recollect_server.memory.recall.dates import holds_time
from recollect_server.memory.recall.layout import Layout
from recollect_server.memory.recall.words import asking, terms, words

PASSAGE_WORDS = 100
"""Up to about so many words a message is about one thing and read together with its neighbours."""

ITEM = np.dtype(
    [
        ("alive", "?"),
        ("embedded", "?"),
        ("stale", "?"),
        ("kind", "i1"),
        ("role", "i1"),
        ("group", "i4"),
        ("speaker", "i4"),
        ("sequence", "i8"),
        ("time", "f8"),
        ("year", "i2"),
        ("month", "i1"),
        ("day", "i1"),
        ("terms", "f4"),
        ("locality", "f4"),
        ("question", "f4"),
        ("timed", "?"),
        ("norm", "f4"),
    ]
)
"""What is known of an item as numbers. `group` is its session, `terms` how many stems it has,
`locality` (0 to 1) how much its neighbours say about it, `question` the share of it that asks,
`norm` the length of its window vector, to be computed anew where `stale`."""

_ROLE_NAMES = frozenset(role.name.lower() for role in Role) | {""}
# Bytes of Python objects, measured roughly: an item's ids and places in dicts; a term's posting
# list in its dict; a posting is two 4-byte numbers in a list grown ahead by an eighth.
_ITEM_BYTES = 600
_TERM_BYTES = 200
_POSTING_BYTES = 9
# Dead rows are swept when they outnumber the living by this many.
_SLACK_ROWS = 64


def embedding_text(item: IndexItem) -> str:
    """The text whose vector represents the item: what was said, without who said it.

    The speaker counts as a feature of its own; a name in every text would make all of one
    person's turns alike.
    """
    return item.text.strip()


@dataclass(frozen=True, slots=True)
class Identity:
    """What names an item to the outside, and its metadata."""

    kind: MemoryKind
    item_id: str
    session_id: str
    sequence: int
    metadata: Mapping[str, str]
    fingerprint: int
    fact_kind: FactKind | None


class Corpus:
    """The items of one user, all kinds. Rows are never reused between sweeps, only marked dead."""

    def __init__(self) -> None:
        self.identities: list[Identity] = []
        self._items = np.zeros(64, ITEM)
        self._vectors: NDArray[np.float32] | None = None
        self._postings: dict[str, array[int]] = {}
        self._posting_count = 0
        self._row_of: dict[tuple[MemoryKind, str], int] = {}
        self._groups: dict[tuple[MemoryKind, str], int] = {}
        self._speakers: dict[str, int] = {}
        self._spoken: Counter[int] = Counter()  # living items by speaker
        self._layout: Layout | None = None
        self._names: dict[str, frozenset[str]] | None = None

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, key: tuple[MemoryKind, str]) -> bool:
        return key in self._row_of

    def __iter__(self) -> Iterator[tuple[MemoryKind, str]]:
        """(kind, item_id) of every item."""
        return iter(self._row_of)

    @property
    def nbytes(self) -> int:
        """Estimated memory in bytes."""
        vectors = 0 if self._vectors is None else self._vectors.nbytes
        layout = 0 if self._layout is None else self._layout.nbytes
        return (
            vectors
            + layout
            + self._items.nbytes
            + len(self.identities) * _ITEM_BYTES
            + len(self._postings) * _TERM_BYTES
            + self._posting_count * _POSTING_BYTES
        )

    def upsert(self, items: Sequence[IndexItem]) -> None:
        """Add items, or replace those of the same kind and id.

        Raises:
            ValueError: a vector of another length than the others'.
        """
        for item in items:
            key = (item.kind, item.item_id)
            fingerprint = _fingerprint(item)
            row = self._row_of.get(key)
            if row is None or self.identities[row].fingerprint != fingerprint:
                if row is not None:
                    self._kill([row])
                row = self._append(item, fingerprint)
                self._row_of[key] = row
            self._set_vector(row, item.vector)

    def remove(self, keys: Iterable[tuple[MemoryKind, str]]) -> None:
        """Remove items by (kind, item_id); unknown ones are ignored."""
        rows = [self._row_of.pop(key) for key in keys if key in self._row_of]
        if rows:
            self._kill(rows)

    def row(self, key: tuple[MemoryKind, str]) -> int | None:
        """The row of a living item, None if there is none."""
        return self._row_of.get(key)

    def names(self) -> Mapping[str, frozenset[str]]:
        """Speakers who are people, not roles, by each case-folded word of their names."""
        if self._names is None:
            found: dict[str, set[str]] = {}
            for speaker, number in self._speakers.items():
                if self._spoken[number] and speaker.lower() not in _ROLE_NAMES:
                    for word in re.findall(r"\w+", speaker.casefold()):
                        found.setdefault(word, set()).add(speaker)
            self._names = {word: frozenset(speakers) for word, speakers in found.items()}
        return self._names

    def layout(self) -> Layout:
        """The living items in order of their sessions; rebuilt after a change."""
        if self._layout is None:
            if len(self.identities) > 2 * len(self._row_of) + _SLACK_ROWS:
                self._sweep()
            items = self._items[: len(self.identities)]
            self._layout = Layout.of(items, self._vectors)
        return self._layout

    def postings(self, term: str) -> NDArray[np.int32]:
        """Shape (n, 2): row and count of each item that holds the term, dead rows included."""
        found = self._postings.get(term)
        return np.array(found if found is not None else (), np.int32).reshape(-1, 2)

    def similarities(self, vector: Vector) -> NDArray[np.float32]:
        """Inner product with every row's own vector, 0 where there is none; shape (rows,)."""
        rows = len(self.identities)
        if self._vectors is None:
            return np.zeros(rows, np.float32)
        return self._vectors[:rows] @ vector.astype(np.float32, copy=False)

    def speaker_numbers(self, speakers: Iterable[str]) -> list[int]:
        """The `speaker` column's values for these names."""
        return [self._speakers[s] for s in speakers if s in self._speakers]

    def group_numbers(self, session_ids: frozenset[str]) -> list[int]:
        """The `group` column's values for these sessions, of every kind."""
        keys = ((kind, session) for session in session_ids for kind in MemoryKind)
        return [self._groups[key] for key in keys if key in self._groups]

    def _append(self, item: IndexItem, fingerprint: int) -> int:
        row = len(self.identities)
        if row == len(self._items):
            self._items = _doubled(self._items)
            self._vectors = None if self._vectors is None else _doubled(self._vectors)
        found = words(item.text)
        stems = terms(found)
        for term, count in _counts(stems).items():
            self._postings.setdefault(term, array("i")).extend((row, count))
            self._posting_count += 1
        group = self._groups.setdefault((item.kind, item.session_id), len(self._groups))
        speaker = self._speakers.setdefault(item.speaker, len(self._speakers))
        self._items[row] = _columns(item, group, speaker, found, len(stems))
        self.identities.append(
            Identity(
                item.kind,
                item.item_id,
                item.session_id,
                item.sequence,
                item.metadata,
                fingerprint,
                item.fact_kind,
            )
        )
        self._count(speaker, 1)
        self._changed()
        return row

    def _set_vector(self, row: int, vector: Vector | None) -> None:
        if vector is None:
            if self._items["embedded"][row] and self._vectors is not None:
                self._vectors[row] = 0
                self._mark(row, embedded=False)
            return
        if self._vectors is None:
            self._vectors = np.zeros((len(self._items), len(vector)), np.float32)
        if len(vector) != self._vectors.shape[1]:
            raise ValueError(f"vector of {len(vector)} numbers among {self._vectors.shape[1]}")
        if not self._items["embedded"][row] or not np.array_equal(self._vectors[row], vector):
            self._vectors[row] = vector
            self._mark(row, embedded=True)

    def _mark(self, row: int, *, embedded: bool) -> None:
        self._items["embedded"][row] = embedded
        self._items["stale"][row] = True
        self._changed()

    def _kill(self, rows: list[int]) -> None:
        self._items["alive"][rows] = False
        for speaker in self._items["speaker"][rows].tolist():
            self._count(speaker, -1)
        # Those who were neighbours of the dead have new neighbours now.
        groups = np.unique(self._items["group"][rows])
        self._items["stale"] |= np.isin(self._items["group"], groups)
        self._changed()

    def _count(self, speaker: int, more: int) -> None:
        before = self._spoken[speaker]
        self._spoken[speaker] = before + more
        if not before or not before + more:
            self._names = None

    def _changed(self) -> None:
        self._layout = None

    def _sweep(self) -> None:
        """Drop dead rows and what points to them."""
        kept = np.flatnonzero(self._items["alive"][: len(self.identities)])
        new_row = np.full(len(self.identities), -1, np.int32)
        new_row[kept] = np.arange(len(kept), dtype=np.int32)
        self._items = np.concatenate([self._items[kept], np.zeros(64 + len(kept), ITEM)])
        if self._vectors is not None:
            room = np.zeros((64 + len(kept), self._vectors.shape[1]), np.float32)
            self._vectors = np.concatenate([self._vectors[kept], room])
        self.identities = [self.identities[row] for row in kept.tolist()]
        self._row_of = {(i.kind, i.item_id): row for row, i in enumerate(self.identities)}
        swept: dict[str, array[int]] = {}
        for term in self._postings:
            pairs = self.postings(term)
            pairs[:, 0] = new_row[pairs[:, 0]]
            pairs = pairs[pairs[:, 0] >= 0]
            if len(pairs):
                swept[term] = array("i", pairs.tobytes())
        self._postings = swept
        self._posting_count = sum(len(pairs) // 2 for pairs in swept.values())


def _columns(
    item: IndexItem, group: int, speaker: int, found: list[str], stems: int
) -> tuple[float, ...]:
    """The item's row of `ITEM`; `found` are its words, `stems` of which carry a topic."""
    turn = item.kind is MemoryKind.TURN
    return (
        True,
        False,
        True,
        item.kind,
        item.role,
        group,
        speaker,
        item.sequence,
        item.time.timestamp(),
        item.time.year,
        item.time.month,
        item.time.day,
        stems,
        1 / (1 + (len(found) / PASSAGE_WORDS) ** 2) if turn else 0,
        asking(item.text) if turn else 0,
        holds_time(found),
        0,
    )


def _doubled(rows: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([rows, np.zeros_like(rows)])


def _counts(stems: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for term in stems:
        counts[term] = counts.get(term, 0) + 1
    return counts


def _fingerprint(item: IndexItem) -> int:
    """Equal for items that differ in their vector at most."""
    metadata = tuple(sorted(item.metadata.items()))
    said = (item.session_id, item.sequence, item.role, item.speaker, item.text, item.time)
    return hash((*said, metadata, item.fact_kind))
