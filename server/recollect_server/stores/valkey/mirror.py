"""Nearest entries without a search module: an exact copy of the vectors, in this process.

The register keeps each vector as bytes of one byte a number, so an owner's vectors come in one
answer; a lookup asks for what has changed since. The copies of all owners are bounded together.
"""

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.model import StoredAnswer
from recollect_server.memory.model import Vector
from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.register import CHANGES, keys_of, tags_of

DEFAULT_BUDGET = 128 * 1024 * 1024
"""Bytes of the copies of all owners."""

PAGE = 1000
LARGE = 3000
"""Above so many vectors the search leaves the event loop alone."""

BLOCK = 128
"""Rows that are made floats and multiplied at once, so that they stay in the processor's cache."""

ENTRY_BYTES = 600
"""What an entry takes beside its vector, about."""

NAME_BYTES = 64
_NAMES = (0, NAME_BYTES, 2 * NAME_BYTES)
_SCALE = np.dtype("<f4")


class _Members(NamedTuple):
    """Entries of a group: vectors of shape (ids, dimensions), to be multiplied by the scales."""

    ids: list[str]
    vectors: NDArray[np.int8]
    scales: NDArray[np.float32]


def _nearest(found: Sequence[_Members], vector: Vector, limit: int) -> tuple[str, ...]:
    ids = [entry_id for members in found for entry_id in members.ids]
    if not ids:
        return ()
    cosines = np.concatenate([_products(m.vectors, vector) * m.scales for m in found])
    return tuple(ids[at] for at in np.argsort(-cosines, kind="stable")[:limit])


def _products(vectors: NDArray[np.int8], vector: Vector) -> NDArray[np.float32]:
    blocks = range(0, len(vectors), BLOCK)
    return np.concatenate([vectors[at : at + BLOCK].astype(np.float32) @ vector for at in blocks])


class _Copy:
    """The vectors of one register.

    Attributes:
        born, revision: which state of the register this is.
        counted: bytes that the budget was charged.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.counted = 0
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.born = b""
        self.revision = b"0"
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._groups: dict[str, set[int]] = {}
        self._group_of: list[tuple[str, ...]] = []
        self._scales = np.empty(0, np.float32)
        self._vectors = np.empty((0, 0), np.int8)

    @property
    def nbytes(self) -> int:
        """Bytes it takes, about."""
        return self._vectors.nbytes + ENTRY_BYTES * len(self._ids)

    def change(self, records: bytes) -> None:
        """Take in what `CHANGES` returned: entries, of which those without a vector go."""
        fresh: dict[str, tuple[tuple[str, ...], bytes]] = {}
        at = 0
        while at < len(records):
            name, *groups = (records[at + n : at + n + NAME_BYTES].decode() for n in _NAMES)
            start = at + 3 * NAME_BYTES + 4
            at = start + int.from_bytes(records[start - 4 : start])
            self.drop(name)
            fresh[name] = tuple(groups), records[start:at]
        # Without a vector an entry is not found by one; vectors of another embedder are left out.
        length = max((len(data) for _, data in fresh.values()), default=0)
        kept = {name: groups for name, (groups, data) in fresh.items() if len(data) == length}
        if length:
            self._append(kept, b"".join(fresh[name][1] for name in kept), length)

    def _append(self, entries: dict[str, tuple[str, ...]], data: bytes, length: int) -> None:
        block = np.frombuffer(data, np.uint8).reshape(-1, length)
        numbers = block[:, _SCALE.itemsize :].view(np.int8)
        if self._vectors.shape[1] != numbers.shape[1]:
            self.clear()
        first = len(self._ids)
        self._reserve(first + len(entries), numbers.shape[1])
        rows = slice(first, first + len(entries))
        self._vectors[rows] = numbers
        self._scales[rows] = block[:, : _SCALE.itemsize].copy().view(_SCALE)[:, 0]
        for entry_id, groups in entries.items():
            self._add(entry_id, groups)

    def _add(self, entry_id: str, groups: tuple[str, ...]) -> None:
        row = len(self._ids)
        self._rows[entry_id] = row
        self._ids.append(entry_id)
        self._group_of.append(groups)
        for group in groups:
            self._groups.setdefault(group, set()).add(row)

    def drop(self, entry_id: str) -> None:
        """Remove an entry; the last one takes its row."""
        row = self._rows.pop(entry_id, None)
        if row is None:
            return
        self._leave(row)
        last = len(self._ids) - 1
        if row != last:
            groups = self._group_of[last]
            self._leave(last)
            self._ids[row] = self._ids[last]
            self._group_of[row] = groups
            self._rows[self._ids[row]] = row
            self._scales[row], self._vectors[row] = self._scales[last], self._vectors[last]
            for group in groups:
                self._groups.setdefault(group, set()).add(row)
        self._ids.pop()
        self._group_of.pop()

    def members(self, group: str, dimensions: int) -> _Members:
        """Return a copy of the vectors of a group."""
        members = self._groups.get(group, set()) if self._vectors.shape[1] == dimensions else set()
        rows = np.fromiter(members, np.int64, len(members))
        ids = [self._ids[row] for row in rows]
        return _Members(ids, self._vectors[rows], self._scales[rows])

    def _leave(self, row: int) -> None:
        for group in self._group_of[row]:
            members = self._groups[group]
            members.discard(row)
            if not members:
                del self._groups[group]

    def _reserve(self, rows: int, dimensions: int) -> None:
        old = len(self._ids)
        if rows <= len(self._vectors):
            return
        capacity = max(rows, old * 3 // 2)
        vectors, scales = np.empty((capacity, dimensions), np.int8), np.empty(capacity, np.float32)
        if old:
            vectors[:old], scales[:old] = self._vectors[:old], self._scales[:old]
        self._vectors, self._scales = vectors, scales


class Mirror:
    """`NearestIndex` by exact copies, kept fresh also when other processes write.

    Args:
        client: of the server that has the registers; gives up soon.
        budget: bytes of all copies; the least recently used go, the last one stays.
    """

    def __init__(self, client: Client, budget: int = DEFAULT_BUDGET) -> None:
        self._client = client
        self._budget = budget
        self._copies: OrderedDict[str, _Copy] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all copies, about."""
        return self._nbytes

    async def open(self) -> None:
        """See `NearestIndex`: there is nothing to make."""

    def register_vector(self, vector: Vector) -> bytes:
        """See `NearestIndex`."""
        scale = max(float(np.abs(vector).max()) / 127, 1e-9)
        numbers: bytes = np.rint(vector / scale).astype(np.int8).tobytes()
        return struct.pack("<f", scale) + numbers

    def entry_fields(self, answer: StoredAnswer, vector: Vector) -> Sequence[str | bytes]:
        """See `NearestIndex`: the register has it."""
        return ()

    async def prepare(self, owner: Scope) -> None:
        """Bring the copies of an owner up to date."""
        await asyncio.gather(*(self._refresh(tag) for tag in tags_of(owner)))

    async def nearest(
        self, owner: Scope, group: str, vector: Vector, limit: int
    ) -> tuple[str, ...]:
        """See `NearestIndex`; as of the last `prepare`."""
        copies = [c for c in map(self._copies.get, tags_of(owner)) if c is not None]
        found = [members for c in copies if (members := c.members(group, vector.size)).ids]
        if sum(len(members.ids) for members in found) < LARGE:
            return _nearest(found, vector, limit)
        return await asyncio.to_thread(_nearest, found, vector, limit)

    def forget(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """See `NearestIndex`."""
        for copy in filter(None, map(self._copies.get, tags_of(owner))):
            for entry_id in entry_ids:
                copy.drop(entry_id)

    def forget_user(self, owner: Scope) -> int:
        """See `NearestIndex`."""
        tags = [tag for tag in tags_of(owner) if tag in self._copies]
        for tag in tags:
            self._drop(tag)
        return len(tags)

    async def _refresh(self, tag: str) -> None:
        copy = self._copies.setdefault(tag, _Copy())
        self._copies.move_to_end(tag)
        async with copy.lock:
            more = True
            while more:
                more = await self._step(tag, copy)
        if self._copies.get(tag) is not copy:
            return
        if not copy.nbytes:
            self._drop(tag)
            return
        self._nbytes += copy.nbytes - copy.counted
        copy.counted = copy.nbytes
        while len(self._copies) > 1 and self._nbytes > self._budget:
            self._drop(next(iter(self._copies)))

    def _drop(self, tag: str) -> None:
        self._nbytes -= self._copies.pop(tag).counted

    async def _step(self, tag: str, copy: _Copy) -> bool:
        known: list[bytes | int] = [copy.born, copy.revision, PAGE]
        born, revision, more, records = await self._client.run(CHANGES, keys_of(tag), known)
        if born != copy.born:
            copy.clear()
        copy.change(records)
        copy.born, copy.revision = born, revision
        return bool(more)
