"""What recall ranks: items as an index loads them, and the index itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from recollect_server.memory.model import FactKind, MemoryKind, Role, Vector
from recollect_server.scope import Scope


@dataclass(frozen=True, slots=True)
class IndexItem:
    """A thing that can be recalled, as an index loads it.

    Attributes:
        item_id: the fact's or episode's id; for a turn its message id.
        session_id: "" for a fact.
        sequence: 0 for a fact.
        vector: shape (dimensions,), None until it is embedded.
        speaker: the author's name, else the role in lower case, "" for a fact.
        fact_kind: None but for a fact.
    """

    kind: MemoryKind
    item_id: str
    session_id: str
    sequence: int
    role: Role
    speaker: str
    text: str
    time: datetime
    metadata: Mapping[str, str]
    vector: Vector | None
    fact_kind: FactKind | None = None


@dataclass(frozen=True, slots=True)
class IndexChanges:
    """Everything that changed for a user after a revision.

    Attributes:
        revision: the user's revision that these changes lead to.
        indexed_revision: every write up to this revision has its vectors.
        upserts: new or changed items, a session's turns in the order of their sequence.
        deletes: (kind, item_id) of what is gone.
        complete: these are all the user's items, not a difference: start anew.
    """

    revision: int
    indexed_revision: int
    upserts: tuple[IndexItem, ...]
    deletes: tuple[tuple[MemoryKind, str], ...]
    complete: bool


class IndexSource(Protocol):
    """Where derived indexes are built from."""

    async def user_revision(self, scope: Scope) -> tuple[int, int]:
        """Return (revision, indexed_revision); (0, 0) for a user without data."""

    async def index_changes(self, scope: Scope, since: int, model: str) -> IndexChanges:
        """Return what changed after revision `since`, vectors of `model` only; 0 means all.

        A vector that is stored later is a change of its own, with a revision of its own.
        """

    async def hurry(self, scope: Scope) -> None:
        """Have the user's texts embedded next, as somebody waits for them; once a batch."""


@dataclass(frozen=True, slots=True)
class RecallFilter:
    """Which items may be found; empty members do not restrict.

    Attributes:
        start: items of this time or later.
        end: items before this time.
        metadata: every pair must be present and equal.
        fact_kinds: of facts only these; other items are not restricted by it.
    """

    session_ids: frozenset[str] = frozenset()
    start: datetime | None = None
    end: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    fact_kinds: frozenset[FactKind] = frozenset()


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """One addend of a rank: contribution = weight x value."""

    name: str
    value: float
    weight: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A found item, best first in any list of them."""

    kind: MemoryKind
    item_id: str
    session_id: str
    sequence: int
    score: float
    terms: tuple[ScoreTerm, ...]


@dataclass(frozen=True, slots=True)
class IndexResult:
    """Ranked items and how fresh the index was.

    Attributes:
        degraded: the query could not be embedded; words alone made the rank.
    """

    ranked: tuple[Ranked, ...]
    indexed_revision: int
    degraded: bool


class RecallIndex(Protocol):
    """Finds items by meaning and words."""

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps in memory, estimated."""

    @property
    def resident_users(self) -> int:
        """Users of whom it keeps something in memory."""

    async def search(
        self,
        scope: Scope,
        query: str,
        *,
        kinds: frozenset[MemoryKind],
        filter: RecallFilter,
        limit: int,
    ) -> IndexResult:
        """Return the best `limit` items of the user. Raises `Unavailable` if SQL is down."""

    def expect(self, scope: Scope, query: str) -> None:
        """Begin what a search that comes in a moment will wait for."""

    def forget_user(self, scope: Scope) -> int:
        """Drop what this process keeps of a user; return how many items there were."""
