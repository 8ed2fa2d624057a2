"""What the answer cache needs from the outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from recollect_server.cache.model import (
    CacheEntry,
    Feedback,
    Partition,
    StoredAnswer,
    Tombstone,
    Verdict,
)
from recollect_server.memory.model import Fact, Vector
from recollect_server.scope import Scope


class Facts(Protocol):
    """Where the cache learns how new a fact is."""

    async def get_facts(self, scope: Scope, fact_ids: Sequence[str]) -> tuple[Fact, ...]:
        """Return the current versions of those that exist, in the ids' order."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which of an owner's entries are meant: those that agree with all that is given."""

    partition: Partition | None = None
    tag: str | None = None
    fact_id: str | None = None


class AnswerStore(Protocol):
    """Entries of the answer cache, in Valkey or Redis.

    An owner is a user, or the tenant with user "". Every method raises `Unavailable` when the
    server cannot be reached in time.
    """

    async def get(self, tenant: str, entry_id: str) -> CacheEntry | None:
        """Return the entry, which may have expired a minute ago, or None; one round trip.

        A corrupt value is logged, removed and None.
        """

    async def get_many(
        self, tenant: str, entry_ids: Sequence[str]
    ) -> tuple[StoredAnswer | None, ...]:
        """Return entries with what finds them, in the ids' order."""

    async def put(self, owner: Scope, answer: StoredAnswer) -> None:
        """Store the entry until its expire_time, replacing an older one.

        Beyond the limits of the owner, the least recently used entries go.
        """

    async def remove(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """Remove entries; it returns when none of them can be found any more."""

    async def find(self, owner: Scope, selector: Selector) -> tuple[str, ...]:
        """Return the ids of the entries meant."""

    async def size(self, partition: Partition) -> tuple[int, int]:
        """Return the number of entries and their bytes."""

    async def page(
        self, partition: Partition, *, limit: int, after: tuple[int, str] | None
    ) -> tuple[tuple[int, str], ...]:
        """Return up to `limit` entries, newest first, as cursors that end in the id."""

    async def same(self, owner: Scope, same: str) -> str | None:
        """Return the id of the newest entry of any model with this `StoredAnswer.same`."""

    async def used(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """Note that entries were served just now."""

    async def prepare(self, owner: Scope) -> None:
        """Do ahead what `nearest` would have to do first."""

    async def nearest(
        self, owner: Scope, group: str, vector: Vector, limit: int
    ) -> tuple[str, ...]:
        """Return the ids of the entries of a group nearest to a unit vector, nearest first.

        Args:
            group: `StoredAnswer.group` or `StoredAnswer.model_group`.
        """

    async def forget(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """Leave entries out of `nearest` that turned out to be gone."""


class CacheRecords(Protocol):
    """What must outlast Valkey: what people said of answers, and counts. Durable on return.

    Every method raises `Unavailable` when the database is down.
    """

    async def report(self, partition: Partition, feedback: Feedback) -> None:
        """Keep a verdict; a question once wrong for an answer stays so."""

    async def tombstones(self, partition: Partition, answer: str) -> tuple[Tombstone, ...]:
        """Return the questions for which an answer, by its digest, was reported wrong."""

    async def verdicts(self, partition: Partition) -> Mapping[Verdict, int]:
        """Return how many questions got each verdict."""

    async def add(self, counts: Mapping[Partition, Mapping[str, int]]) -> None:
        """Add to the counts."""

    async def counts(self, partition: Partition) -> Mapping[str, int]:
        """Return the counts by name."""

    async def erase(self, owner: Scope) -> None:
        """Remove everything kept of an owner."""
