"""A corpus in the order of its sessions, so that neighbours are slices apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import MemoryKind

Floats = NDArray[np.float32]

REACH = 6
"""How many turns away a word still counts."""

WINDOW = 2
"""How many turns away a vector still counts."""

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """Living items, sorted by kind, session, sequence; P of them.

    Attributes:
        rows: shape (P,), the corpus row at each position.
        position: shape (rows of the corpus,), the inverse, -1 for dead rows.
        items: shape (P,), the corpus's columns in this order, see `corpus.ITEM`.
        ties: at [d - 1], shape (P - d,): how much the items at positions p and p + d say about
            each other, 0 (nothing: another session, or long messages) to 1, for d = 1..REACH.
    """

    rows: NDArray[np.intp]
    position: NDArray[np.int32]
    items: NDArray[np.void]
    ties: tuple[Floats, ...]

    @classmethod
    def of(cls, columns: NDArray[np.void], vectors: Floats | None) -> "Layout":
        """Lay out the living rows and refresh the `norm` of those that are `stale`."""
        living = np.flatnonzero(columns["alive"])
        keys = tuple(columns[name][living] for name in ("sequence", "group", "kind"))
        rows = living[np.lexsort(keys)]
        position = np.full(len(columns), -1, np.int32)
        position[rows] = np.arange(len(rows), dtype=np.int32)
        group, locality = columns["group"][rows], columns["locality"][rows]
        ties = tuple(
            (locality[d:] * locality[:-d] * (group[d:] == group[:-d])).astype(np.float32)
            for d in range(1, min(REACH, len(rows) - 1) + 1)
        )
        if vectors is not None:
            _refresh_norms(columns, vectors, rows, ties)
        columns["stale"] = False
        return cls(rows, position, columns[rows], ties)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        own = self.rows.nbytes + self.position.nbytes + self.items.nbytes
        return own + sum(tie.nbytes for tie in self.ties)

    def span(self, kinds: frozenset[MemoryKind]) -> slice:
        """The shortest run of positions that holds every item of these kinds."""
        kind = self.items["kind"]
        if not kinds:
            return slice(0, 0)
        start = np.searchsorted(kind, min(kinds), "left")
        return slice(int(start), int(np.searchsorted(kind, max(kinds), "right")))


def _refresh_norms(
    columns: NDArray[np.void],
    vectors: Floats,
    rows: NDArray[np.intp],
    ties: tuple[Floats, ...],
) -> None:
    """Set `norm` to the length of the sum of a stale item's and its neighbours' vectors."""
    near = columns["stale"][rows]
    stale = near.copy()
    for d in range(1, min(WINDOW, len(ties)) + 1):
        stale[d:] |= near[:-d]
        stale[:-d] |= near[d:]
    places = np.flatnonzero(stale)
    for start in range(0, len(places), _CHUNK):
        at = places[start : start + _CHUNK]
        total = vectors[rows[at]]
        for d in range(1, min(WINDOW, len(ties)) + 1):
            tie = ties[d - 1] / np.float32(1 + d)
            before, after = at >= d, at < len(rows) - d
            total[before] += tie[at[before] - d, None] * vectors[rows[at[before] - d]]
            total[after] += tie[at[after], None] * vectors[rows[at[after] + d]]
        columns["norm"][rows[at]] = np.linalg.norm(total, axis=1)
