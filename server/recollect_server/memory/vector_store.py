"""Stores of vectors outside the process, and what feeds them.

SQL holds every vector; a vector store is derived from it and finds candidates by meaning among more
items than one process can rank. What it holds may be late or lost: an item counts only if SQL has
it, and a store is filled again from SQL without embedding anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.scope import Scope

EXACT_URL = "exact:"
"""Stands for the exact index in each server's memory, which nothing has to be filled for."""

ItemKey = tuple[MemoryKind, str]
"""Kind and id of an item, unique within a scope."""


@dataclass(frozen=True, slots=True)
class VectorPoint:
    """A vector of an item.

    Attributes:
        session_id: "" for a fact.
        sequence: 0 for a fact or an episode.
        passage: number of the vector within its item, from 0.
        vector: shape (dimensions,), unit length.
    """

    kind: MemoryKind
    item_id: str
    session_id: str
    sequence: int
    time: datetime
    passage: int
    vector: Vector


@dataclass(frozen=True, slots=True)
class VectorFilter:
    """Which points may be found; the store itself applies it, before it picks the nearest.

    Attributes:
        session_ids: empty does not restrict.
        start: points of this time or later.
        end: points before this time.
    """

    kinds: frozenset[MemoryKind]
    session_ids: frozenset[str] = frozenset()
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class VectorHit:
    """A point that was found.

    Attributes:
        similarity: cosine with the query, -1 to 1.
    """

    kind: MemoryKind
    item_id: str
    passage: int
    similarity: float


class VectorStore(Protocol):
    """Points of all users, of one embedding model.

    A scope sees its own points and no others. Every method raises `Unavailable` with
    STORE_UNAVAILABLE when the store does not answer in time.
    """

    async def exists(self) -> bool:
        """Whether there is what holds the points; it may have been lost, with them."""

    async def create(self) -> None:
        """Make what holds the points, unless it is there. Nothing else makes it."""

    async def upsert(self, scope: Scope, points: Sequence[VectorPoint]) -> None:
        """Store points; an item's points are replaced as a whole. Repeating it changes nothing."""

    async def delete(self, scope: Scope, keys: Sequence[ItemKey]) -> None:
        """Delete all points of items; unknown ones are ignored."""

    async def delete_user(self, scope: Scope) -> None:
        """Delete all points of the scope."""

    async def search(
        self, scope: Scope, vector: Vector, filter: VectorFilter, limit: int
    ) -> tuple[VectorHit, ...]:
        """Return up to `limit` points of the scope, most similar first."""

    async def count(self, scope: Scope) -> int:
        """Return how many points the scope has."""

    async def drop(self) -> None:
        """Delete everything the store holds, and what holds it."""


class OpenVectorStore(Protocol):
    """Returns a vector store, without connecting to it yet."""

    def __call__(self, url: str, name: str, dimensions: int) -> VectorStore:
        """Return the store called `name` where `url` says; see `RegisteredStore`.

        Raises:
            InvalidArgument: `target`, the URL is not one of a vector store.
        """


class VectorStoreState(StrEnum):
    """Where a registered store is.

    FILLING: it is brought up to date while another one answers.
    ACTIVE: it answers.
    RETIRED: another one has taken over; it is kept up to date for servers that have not noticed
        yet, then dropped.
    """

    FILLING = "filling"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class RegisteredStore:
    """A vector store that SQL knows of, so that every server does.

    Attributes:
        store_key: names it in SQL.
        name: of its collection or table, letters, digits and `_`, unique everywhere.
        url: where it is; the scheme says of what kind it is.
        model: the embedding model of its points.
        dimensions: length of its vectors.
        fed: it is brought up to date by a `Feeder`; otherwise by the transactions themselves.
        state_time: when it got into its state.
    """

    store_key: int
    name: str
    url: str
    model: str
    dimensions: int
    fed: bool
    state: VectorStoreState
    state_time: datetime


@dataclass(frozen=True, slots=True)
class Feed:
    """A user whose points in a store are to be brought up to date, leased.

    Attributes:
        revision: everything up to this revision of the user is in the store.
    """

    store: RegisteredStore
    scope: Scope
    user_key: int
    revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What changed for a user between two revisions, deletions to be applied first.

    Attributes:
        through: the revision up to which this is everything.
    """

    deletes: tuple[ItemKey, ...]
    points: tuple[VectorPoint, ...]
    through: int


class VectorFeeds(Protocol):
    """Which stores there are, and how far each is behind SQL.

    Every method raises `Unavailable` when SQL is down.
    """

    async def stores(self) -> tuple[RegisteredStore, ...]:
        """Return the registered stores. Without an active one, the exact index answers."""

    async def lease_feed(self, store: RegisteredStore) -> Feed | None:
        """Lease a user whose points are behind, or None."""

    async def read_page(self, feed: Feed) -> FeedPage:
        """Return what the store lacks next."""

    async def advance(self, feed: Feed, through: int) -> None:
        """Record that the store has everything up to `through`, and end the lease.

        A lease that was lost changes nothing.
        """

    async def give_back(self, feed: Feed, error: str) -> None:
        """End a lease whose work failed; the user is leased again after a pause."""

    async def refill(self, store: RegisteredStore) -> None:
        """Start a store anew: it lost what it had."""

    async def take_over(self, store: RegisteredStore) -> bool:
        """Make a filled store the active one; False, with nothing changed, if it lacks anything."""

    async def forget_store(self, store: RegisteredStore) -> None:
        """Forget a retired store, which has been dropped."""


class ItemPlace(Protocol):
    """Where an item is; `memory.recall.Identity` is one."""

    @property
    def kind(self) -> MemoryKind:
        """What it is."""

    @property
    def item_id(self) -> str:
        """Its id."""

    @property
    def session_id(self) -> str:
        """Its session, "" for a fact."""

    @property
    def sequence(self) -> int:
        """Its number in the session, for a turn."""


class VectorSource(Protocol):
    """Vectors of single items."""

    async def read_vectors(
        self, scope: Scope, items: Sequence[ItemPlace], model: str
    ) -> Mapping[ItemKey, Vector]:
        """Return the vectors of those that have one of `model`; raises `Unavailable`."""


class FeedState(Protocol):
    """How far a store is behind SQL."""

    async def indexed_revision(self, store: RegisteredStore, scope: Scope) -> tuple[int, int]:
        """Return the user's revision, and the one up to which the store has everything."""
