"""The index that the server allows: its search module where it has one, else copies here."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from recollect_server.cache.model import StoredAnswer
from recollect_server.errors import Unavailable
from recollect_server.memory.model import Vector
from recollect_server.scope import Scope
from recollect_server.stores.valkey.answers import NearestIndex
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.mirror import Mirror
from recollect_server.stores.valkey_search.index import SearchIndex, has_search

log = structlog.get_logger("recollect.valkey_search")


class BestIndex:
    """`NearestIndex` that finds out at the first use, so that the server may be down before.

    Attributes:
        kind: `search` or `mirror`, "" while it is not known.
    """

    def __init__(self, hasty: Client, patient: Client, dimensions: int, budget: int) -> None:
        self._patient = patient
        self._search: Callable[[], SearchIndex] = lambda: SearchIndex(hasty, patient, dimensions)
        self._mirror: Callable[[], Mirror] = lambda: Mirror(hasty, budget)
        self._chosen: NearestIndex | None = None
        self._choosing = asyncio.Lock()
        self.kind = ""

    async def open(self) -> None:
        """See `NearestIndex`."""
        if self._chosen is not None:
            return
        async with self._choosing:
            if self._chosen is not None:
                return
            kind = "search" if await has_search(self._patient) else "mirror"
            index: NearestIndex = self._search() if kind == "search" else self._mirror()
            await index.open()
            self._chosen, self.kind = index, kind
            log.info("answers are found by meaning", index=kind)

    async def try_open(self) -> None:
        """Open unless the server is down; then the first use does it."""
        try:
            await self.open()
        except Unavailable as error:
            log.warning("semantic index not opened yet", reason=error.reason)

    def register_vector(self, vector: Vector) -> bytes:
        """See `NearestIndex`."""
        return self._index.register_vector(vector)

    def entry_fields(self, answer: StoredAnswer, vector: Vector) -> Sequence[str | bytes]:
        """See `NearestIndex`."""
        return self._index.entry_fields(answer, vector)

    async def prepare(self, owner: Scope) -> None:
        """See `NearestIndex`."""
        await self.open()
        await self._index.prepare(owner)

    async def nearest(
        self, owner: Scope, group: str, vector: Vector, limit: int
    ) -> tuple[str, ...]:
        """See `NearestIndex`."""
        await self.open()
        return await self._index.nearest(owner, group, vector, limit)

    def forget(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """See `NearestIndex`."""
        self._index.forget(owner, entry_ids)

    def forget_user(self, owner: Scope) -> int:
        """See `NearestIndex`."""
        return 0 if self._chosen is None else self._chosen.forget_user(owner)

    @property
    def _index(self) -> NearestIndex:
        if self._chosen is None:
            raise RuntimeError("the index is used before `open`")
        return self._chosen
