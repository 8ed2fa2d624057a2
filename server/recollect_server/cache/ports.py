"""What the answer cache needs from the outside."""

from collections.abc import Sequence
from typing import Protocol

from recollect_server.cache.model import CacheEntry
from recollect_server.memory.model import Fact
from recollect_server.scope import Scope


class Facts(Protocol):
    """Where the cache learns how new a fact is."""

    async def get_facts(self, scope: Scope, fact_ids: Sequence[str]) -> tuple[Fact, ...]:
        """Return the current versions of those that exist, in the ids' order."""


class ExactCache(Protocol):
    """Entries by the digest of their key, in Valkey or Redis.

    Every method raises `Unavailable` when the server cannot be reached in time.
    """

    async def get(self, tenant: str, entry_id: str) -> CacheEntry | None:
        """Return the entry, or None. A corrupt value is logged, removed and a miss."""

    async def put(self, tenant: str, entry: CacheEntry) -> None:
        """Store the entry until its expire_time, replacing an older one."""

    async def delete(self, tenant: str, entry_id: str) -> bool:
        """Remove the entry; False if there was none."""

    async def forget_facts(self, scope: Scope, fact_ids: Sequence[str]) -> None:
        """Remove the user's entries that cite any of these facts."""
