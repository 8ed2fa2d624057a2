"""Nearest entries by a vector index in the server, over the entries' own hashes.

Only what Valkey Search and RediSearch share is used: an index on hashes of a prefix, with tags and
one vector; queries of dialect 2 that are a KNN clause behind a tag.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence

import numpy as np
import structlog

from recollect_server.cache.model import StoredAnswer
from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.model import Vector
from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import RETRY_AFTER_SECONDS, Client, Refused
from recollect_server.stores.valkey.keys import ENTRY_PREFIX, PREFIX

log = structlog.get_logger("recollect.valkey_search")

NAME_PREFIX = f"{PREFIX.rstrip(':')}-entries-"

_NO_INDEX = re.compile(r"no such index|unknown index|index.*not found|not found", re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[0-9a-f]{16,128}")


async def has_search(client: Client) -> bool:
    """Whether the server has a search module that this index can use.

    Raises:
        Unavailable: the server does not answer.
    """
    if client.clustered:
        return False
    try:
        await client.command(None, "FT._LIST")
    except Refused:
        return False
    return True


class SearchIndex:
    """`NearestIndex` by FT.SEARCH; the index is made when it is missing.

    Args:
        hasty: for lookups; gives up soon.
        patient: to make the index.
        dimensions: of the vectors.
    """

    def __init__(self, hasty: Client, patient: Client, dimensions: int) -> None:
        self._hasty = hasty
        self._patient = patient
        self._schema = (
            *("ON", "HASH", "PREFIX", "1", ENTRY_PREFIX, "SCHEMA"),
            *("g", "TAG", "x", "VECTOR", "HNSW", "6"),
            *("TYPE", "FLOAT32", "DIM", str(dimensions), "DISTANCE_METRIC", "COSINE"),
        )
        version = hashlib.blake2b(" ".join(self._schema).encode(), digest_size=6).hexdigest()
        self.name = f"{NAME_PREFIX}{version}"
        """Of the index: another schema is another index."""
        self._making = asyncio.Lock()

    async def open(self) -> None:
        """Make the index if it is missing, and drop those of other versions.

        Raises:
            Unavailable: the server does not answer.
        """
        async with self._making:
            try:
                names = [n.decode() for n in await self._patient.command(None, "FT._LIST")]
                if self.name not in names:
                    await self._make()
                for name in names:
                    if name.startswith(NAME_PREFIX) and name != self.name:
                        await self._patient.command(None, "FT.DROPINDEX", name)
            except Refused as error:
                raise _refused(error) from None

    def register_vector(self, vector: Vector) -> bytes:
        """See `NearestIndex`: the index has it."""
        return b""

    def entry_fields(self, answer: StoredAnswer, vector: Vector) -> Sequence[str | bytes]:
        """See `NearestIndex`."""
        data = vector.astype(np.float32).tobytes()
        groups = f"{answer.group},{answer.model_group}"
        return ("g", groups, "i", answer.entry.entry_id, "x", data)

    async def prepare(self, owner: Scope) -> None:
        """See `NearestIndex`: there is nothing to do ahead."""

    async def nearest(
        self, owner: Scope, group: str, vector: Vector, limit: int
    ) -> tuple[str, ...]:
        """See `NearestIndex`."""
        if not _HEXADECIMAL.fullmatch(group):
            raise ValueError("a group is a digest")
        try:
            return await self._search(group, vector, limit)
        except Refused as error:
            if not _NO_INDEX.search(error.text):
                raise _refused(error) from None
        # The server was emptied or is another one.
        await self.open()
        try:
            return await self._search(group, vector, limit)
        except Refused as error:
            raise _refused(error) from None

    def forget(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """See `NearestIndex`: the index follows the keys by itself."""

    def forget_user(self, owner: Scope) -> int:
        """See `NearestIndex`: this process keeps nothing."""
        return 0

    async def _search(self, group: str, vector: Vector, limit: int) -> tuple[str, ...]:
        query = f"(@g:{{{group}}})=>[KNN {limit} @x $v AS d]"
        answer = await self._hasty.command(
            None,
            *(
                "FT.SEARCH",
                self.name,
                query,
                "PARAMS",
                "2",
                "v",
                vector.astype(np.float32).tobytes(),
            ),
            *("RETURN", "2", "d", "i", "LIMIT", "0", str(limit), "DIALECT", "2"),
        )
        found = []
        for fields in answer[2::2]:
            named = dict(zip(fields[::2], fields[1::2], strict=True))
            if b"d" in named and b"i" in named:
                found.append((float(named[b"d"]), named[b"i"].decode()))
        return tuple(entry_id for _, entry_id in sorted(found))

    async def _make(self) -> None:
        try:
            await self._patient.command(None, "FT.CREATE", self.name, *self._schema)
        except Refused as error:
            # Another process was first.
            if "exists" not in error.text:
                raise
        log.info("search index made", index=self.name)


def _refused(error: Refused) -> Unavailable:
    # Its text may quote the command.
    log.warning("search refused", error=type(error).__name__)
    return Unavailable(
        Reason.STORE_UNAVAILABLE,
        "the search module refused the command",
        RETRY_AFTER_SECONDS,
    )
