"""What conversation memory needs from the outside. Adapters live in `stores` and `models`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.fact_plan import Plan
from recollect_server.memory.model import (
    Appended,
    Episode,
    ExtractedFact,
    Fact,
    FactKind,
    MemoryKind,
    Message,
    NewEpisode,
    NewFact,
    NewMessage,
    NewSession,
    Reconciled,
    Remembered,
    Role,
    Session,
    Summary,
    Vector,
)
from recollect_server.scope import RequestKey, Scope


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def model(self) -> str:
        """Name stored beside every vector; vectors of different names are never compared."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (len(texts), dimensions), rows of unit length, in order.

        Raises:
            Unavailable: the model cannot be reached.
        """

    def expect(self, text: str) -> None:
        """Begin to embed a text that will be asked for in a moment."""


class Summarizer(Protocol):
    """Puts conversations into few words."""

    @property
    def summary_model(self) -> str:
        """Name kept with what it writes; `extractive` if it only quotes."""

    async def summarize(self, earlier: str, messages: Sequence[Message]) -> str:
        """Return a summary of `earlier`, a summary or "", and the messages after it.

        Raises:
            Unavailable, ResourceExhausted: the model does not answer now.
            BadModelAnswer: it answered, but not with a summary.
        """

    async def title(self, summary: str) -> str:
        """Return a title of a few words for a summary. Raises as `summarize` does."""


class FactExtractor(Protocol):
    """Finds statements about the user in a conversation."""

    @property
    def extraction_model(self) -> str:
        """Name kept with what it finds; `verbatim` if it only quotes."""

    async def extract(self, messages: Sequence[Message]) -> tuple[ExtractedFact, ...]:
        """Return what the messages, in their order, say about the user. Raises as `Summarizer`."""


class SessionStore(Protocol):
    """Sessions and their messages: the truth, durable when a call returns.

    Every method raises `Unavailable` when the store is down, and `NotFound` with
    SESSION_NOT_FOUND where it names a session that does not exist in the scope.
    """

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """Create a session.

        Raises:
            AlreadyExists: the id is taken in this scope.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """Return the session."""

    async def list_sessions(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[Session, ...]:
        """Return up to `limit` sessions, most recently updated first, after (update_time, id)."""

    async def update_session(
        self,
        scope: Scope,
        session_id: str,
        changes: Mapping[str, object],
        expected_revision: int | None,
        request: RequestKey | None = None,
    ) -> Session:
        """Set the named attributes of `Session`; one revision step.

        Raises:
            RevisionMismatch: the session is not at `expected_revision`.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def clear_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> Session:
        """Start the window after the newest message and drop the summary; keep the transcript.

        Raises:
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def save_summary(
        self,
        scope: Scope,
        session_id: str,
        summary: Summary,
        replaces_through: int,
        session_time: datetime | None = None,
    ) -> Session | None:
        """Replace the summary as one revision step; return the session.

        Args:
            session_time: create_time of the session that was summarised: one that was made again
                under its id is another. None means any.
            replaces_through: `summary_through` of the session that the summary continues; if the
                session is no longer there, nothing changes and the result is None.
        """

    async def delete_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> None:
        """Delete the session and what was drawn from it alone.

        Raises:
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def append_messages(
        self,
        scope: Scope,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        request: RequestKey | None,
        expected_revision: int | None,
    ) -> Appended:
        """Append all messages or none, in order, as one revision step, with the embedding job.

        Raises:
            RevisionMismatch: the session is not at `expected_revision`.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def list_messages(
        self,
        scope: Scope,
        session_id: str,
        *,
        limit: int,
        after: int | None,
        before: int | None,
        since: datetime | None,
        newest_first: bool,
    ) -> tuple[Message, ...]:
        """Return up to `limit` messages with after < sequence < before and time >= since."""

    async def find_messages(
        self, scope: Scope, keys: Sequence[tuple[str, int]]
    ) -> tuple[Message, ...]:
        """Return the messages of these (session_id, sequence) that exist, in the keys' order."""


class EpisodeStore(Protocol):
    """Episodes, durable when a call returns."""

    async def save_episode(
        self,
        scope: Scope,
        session_id: str,
        episode: NewEpisode,
        session_time: datetime | None = None,
    ) -> Episode | None:
        """Store the session's next episode, with the job that embeds it.

        Args:
            session_time: as in `SessionStore.save_summary`.

        Returns:
            None, with nothing stored, if it does not follow the session's last one.

        Raises:
            NotFound: SESSION_NOT_FOUND.
        """

    async def get_episode(self, scope: Scope, episode_id: str) -> Episode:
        """Return the episode. Raises `NotFound` with EPISODE_NOT_FOUND."""

    async def get_episodes(self, scope: Scope, episode_ids: tuple[str, ...]) -> tuple[Episode, ...]:
        """Return those that exist, in the ids' order."""

    async def list_episodes(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        session_id: str = "",
    ) -> tuple[Episode, ...]:
        """Return episodes, latest end first, after (end_time, episode_id).

        Args:
            session_id: only episodes of this session; "" for all.
        """


class FactStore(Protocol):
    """Facts about a user and their history, durable when a call returns."""

    async def remember(
        self,
        scope: Scope,
        facts: Sequence[NewFact],
        request: RequestKey | None,
        plan: Plan | None = None,
    ) -> Remembered:
        """Store all facts or none, with the job that embeds them.

        Args:
            plan: what to do with them, in their order; None stores them as they are given, but for
                those that add nothing to one that is held.

        Raises:
            AlreadyExists: FACT_EXISTS, a chosen id is taken.
            FailedPrecondition: REQUEST_ID_REUSED.
            FactsChanged: the plan is no longer current.
        """

    async def save_extracted(
        self,
        scope: Scope,
        session_id: str,
        plan: Plan,
        *,
        through: int,
        replaces_through: int,
        session_time: datetime | None = None,
    ) -> tuple[Reconciled, ...] | None:
        """Do with facts found in a session's messages what is planned and move its watermark, in
        one step.

        Args:
            through: the messages up to this sequence have been read.
            session_time: as in `SessionStore.save_summary`.
            replaces_through: the watermark from which they were read; if the session's is no
                longer there, nothing changes and the result is None.

        Raises:
            NotFound: SESSION_NOT_FOUND.
            FactsChanged: the plan is no longer current.
        """

    async def same_facts(self, scope: Scope, text: str) -> tuple[Fact, ...]:
        """Return the current versions of facts with these words; see `statements.normal_form`."""

    async def get_fact(self, scope: Scope, fact_id: str) -> Fact:
        """Return the current version. Raises `NotFound` with FACT_NOT_FOUND."""

    async def get_facts(self, scope: Scope, fact_ids: Sequence[str]) -> tuple[Fact, ...]:
        """Return the current versions of those that exist, in the ids' order."""

    async def list_facts(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        valid_only: bool,
        kinds: frozenset[FactKind] = frozenset(),
    ) -> tuple[Fact, ...]:
        """Return current versions, newest recorded first, after (recorded_at, fact_id).

        Args:
            kinds: only facts of these kinds; none means all.
        """

    async def update_fact(
        self,
        scope: Scope,
        fact_id: str,
        changes: Mapping[str, object],
        expected_version: int | None = None,
        request: RequestKey | None = None,
    ) -> Fact:
        """Write the next version with the named attributes of `Fact` changed.

        Raises:
            NotFound: FACT_NOT_FOUND.
            RevisionMismatch: the fact is not at `expected_version`.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def forget_fact(
        self, scope: Scope, fact_id: str, request: RequestKey | None = None
    ) -> None:
        """Delete the fact with its whole history.

        Raises:
            NotFound: FACT_NOT_FOUND.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def fact_history(self, scope: Scope, fact_id: str) -> tuple[Fact, ...]:
        """Return every version, oldest first. Raises `NotFound` with FACT_NOT_FOUND."""


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
class EmbeddingTask:
    """Texts of one user that wait for a vector of `model`.

    Attributes:
        items: what to embed; `vector` is None on all.
    """

    job_id: str
    lease: int
    scope: Scope
    items: tuple[IndexItem, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingBacklog:
    """The texts that wait for their vectors.

    Attributes:
        waiting: their number.
        reembedding: how many of them have a vector of another model, which is to be replaced.
        oldest_time: when the first of them began to wait, None if none does.
        checking: users are still being looked through for vectors of another model, so
            `reembedding` may grow.
    """

    waiting: int
    reembedding: int
    oldest_time: datetime | None
    checking: bool


class EmbeddingQueue(Protocol):
    """The outbox of texts to embed: leased, retried with backoff, idempotent."""

    async def use_model(self, model: str) -> None:
        """Make a model the one that embeds; what others embedded is queued again, bit by bit."""

    async def backlog(self, tenant: str = "") -> EmbeddingBacklog:
        """Return what waits, of a tenant or, with "", of all."""

    async def somebody_waits(self) -> bool:
        """Whether `IndexSource.hurry` asked for texts, in any process, that nobody hurries with."""

    async def lease_embedding(
        self, model: str, limit: int, *, hurried: bool = False
    ) -> EmbeddingTask | None:
        """Lease the next due job with up to `limit` items, or None.

        None, too, while `model` is not the one that embeds.

        Args:
            hurried: `IndexSource.hurry` does not take the job away again, as it does from others.
        """

    async def complete_embedding(
        self, task: EmbeddingTask, model: str, vectors: NDArray[np.float32]
    ) -> None:
        """Store the vectors and finish the job, or keep it due if more items wait.

        A lease that was lost meanwhile changes nothing, and vectors of a model that no longer
        embeds are not stored.
        """

    async def fail_embedding(self, task: EmbeddingTask, error: str, *, waits: bool) -> None:
        """Give the job back with backoff; after the last attempt it is a dead letter.

        Args:
            waits: the embedder is down, so it was no attempt.
        """


@dataclass(frozen=True, slots=True)
class Window:
    """The recent messages of a session as of a revision.

    Attributes:
        session_time: when the session was created; it tells the session from a deleted one of the
            same id, whose revisions were the same numbers.
    """

    session_time: datetime
    revision: int
    messages: tuple[Message, ...]


class WindowCache(Protocol):
    """Recent windows in Valkey or Redis: derived, may be lost at any time.

    Every method raises `Unavailable` when the server cannot be reached in time.
    """

    async def get(self, scope: Scope, session_id: str) -> Window | None:
        """Return the cached window, or None."""

    async def put(self, scope: Scope, session_id: str, window: Window, ttl_seconds: float) -> None:
        """Cache a window unless a newer one, by session_time and revision, is cached already."""

    async def delete(self, scope: Scope, session_id: str) -> None:
        """Drop the window."""


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
