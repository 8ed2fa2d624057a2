"""The nouns of the answer cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from msgspec import Struct

from recollect_server.cache.conversation import Conversation
from recollect_server.memory.model import Part, Vector
from recollect_server.memory.prompt import Usage
from recollect_server.scope import Scope


class CacheScope(IntEnum):
    """Who may be served an answer; values equal `recollect.v1.CacheScope`."""

    USER = 1
    SESSION = 2
    GLOBAL = 3


class CacheTier(IntEnum):
    """Which tier answered; values equal `recollect.v1.CacheTier`."""

    EXACT = 1
    SEMANTIC = 2


class MissReason(IntEnum):
    """Why a lookup missed; values equal `recollect.v1.MissReason`."""

    NOT_FOUND = 1
    EXPIRED = 2
    NEWER_MEMORY = 3
    BELOW_THRESHOLD = 4
    DEGRADED = 5


class Strategy(IntEnum):
    """How the semantic tier decides; values equal `recollect.v1.SemanticStrategy`."""

    VERIFIER = 1
    CONTEXT_WINDOW = 2


class Verdict(IntEnum):
    """What a served answer was; values equal `recollect.v1.Verdict`."""

    RIGHT = 1
    WRONG = 2


class Partition(Struct, frozen=True):
    """The answers that share who may be served them, and what is counted of them.

    Attributes:
        owner: the user, or the tenant with user "" in GLOBAL. Limits are an owner's.
        session_id: "" unless the scope is SESSION.
    """

    owner: Scope
    scope: CacheScope
    session_id: str


class CacheEntry(Struct, frozen=True):
    """A stored answer.

    Attributes:
        entry_id: hex digest of what the exact tier keys on.
        user_id: the only user it may be served to; "" in GLOBAL.
        session_id: the only session it may be served in; "" unless the scope is SESSION.
        question: text of the last message of the prompt, for people who list entries.
        holds_memory: the prompt held a user's memory, so the answer stays with that user.
        cited_fact_ids: facts the answer rests on.
        create_time: as of when the answer holds: when the memory in its prompt was read.
    """

    entry_id: str
    scope: CacheScope
    user_id: str
    session_id: str
    model: str
    question: str
    answer: tuple[Part, ...]
    usage: Usage
    tags: tuple[str, ...]
    cited_fact_ids: tuple[str, ...]
    holds_memory: bool
    create_time: datetime
    expire_time: datetime

    def partition(self, tenant: str) -> Partition:
        """Return where the entry belongs."""
        return Partition(Scope(tenant, self.user_id), self.scope, self.session_id)


class StoredAnswer(Struct, frozen=True):
    """An entry with what finds it again.

    Attributes:
        question: digest of the conversation, whatever its setting.
        same: digest of the exact key without the model.
        group: digest of all that must be equal for a semantic hit, without the model.
        model_group: the same with the model.
        conversation: None where the prompt cannot be compared by meaning.
        candidate: shape (n,), unit length, what nearest entries are found by; None without a
            conversation.
        author: the user whose question it answers, in GLOBAL too; "" stands for the owner.
    """

    entry: CacheEntry
    question: str
    same: str
    group: str
    model_group: str
    conversation: Conversation | None = None
    candidate: Vector | None = None
    author: str = ""


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """How to store an answer.

    Attributes:
        ttl: counted from the store and not extended by hits.
        context_time: when the memory in the prompt was read; None means now.
    """

    ttl: timedelta = timedelta(minutes=30)
    tags: tuple[str, ...] = ()
    cited_fact_ids: tuple[str, ...] = ()
    holds_memory: bool = False
    context_time: datetime | None = None


class LookupOptions(Struct, frozen=True):
    """How to look.

    Attributes:
        any_model: serve answers of other models too.
        max_false_hit_rate: most false hits among hits of the semantic tier, 0 to 0.5.
        max_distance: decide by cosine distance, 0 to 2, instead; the strategy says of what.
        window_messages: how many last messages CONTEXT_WINDOW joins.
        window_characters: at how many characters it cuts each.
        explain: say which numbers decided.
    """

    tiers: frozenset[CacheTier] = frozenset(CacheTier)
    any_model: bool = False
    strategy: Strategy = Strategy.VERIFIER
    max_false_hit_rate: float = 0.01
    max_distance: float | None = None
    window_messages: int = 6
    window_characters: int = 200
    explain: bool = False


DEFAULT_OPTIONS = LookupOptions()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the semantic tier saw.

    Attributes:
        entry_id: the nearest entry, "" if there was none.
        probability: that it answers this conversation; by distance, one minus the distance.
        threshold: from which on it is a hit.
    """

    entry_id: str = ""
    probability: float = 0.0
    threshold: float = 0.0
    features: Mapping[str, float] = field(default_factory=dict)


class LookupResult(Struct, frozen=True):
    """A hit with its entry, or a miss with its reason.

    Attributes:
        probability: that the entry answers this conversation; 1.0 for the exact tier.
        explanation: None if the semantic tier was not asked.
        answers_down: Valkey, or the record of reported answers, could not be asked.
        embedder_down: the semantic tier could not be asked.
    """

    entry: CacheEntry | None
    tier: CacheTier | None = None
    probability: float = 0.0
    miss_reason: MissReason | None = None
    explanation: Explanation | None = None
    answers_down: bool = False
    embedder_down: bool = False


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody said of a served answer.

    Attributes:
        question: digest of the conversation it was served to.
        answer: digest of the answer.
        probability: that the verifier gave it, None if it was not asked.
        vector: candidate vector of the conversation, None if it has none.
        vector_model: the embedder of `vector`.
    """

    entry_id: str
    question: str
    answer: str
    verdict: Verdict
    probability: float | None
    vector: Vector | None
    vector_model: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A question that an answer is known to be wrong for."""

    question: str
    vector: Vector | None
    vector_model: str


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What was counted in a partition since its first lookup.

    Attributes:
        misses: by reason.
        saved_usd: US dollars.
        entry_bytes: of the entries that are stored now.
        median_seconds: of a lookup, within a fifth.
    """

    exact_hits: int
    semantic_hits: int
    misses: Mapping[MissReason, int]
    saved_usage: Usage
    saved_usd: float
    reported_wrong: int
    reported_right: int
    entries: int
    entry_bytes: int
    median_seconds: float

    @property
    def lookups(self) -> int:
        """How many were answered."""
        return self.exact_hits + self.semantic_hits + sum(self.misses.values())

    @property
    def observed_false_hit_rate(self) -> float | None:
        """Share of wrong ones among the hits that somebody judged; None if nobody did."""
        judged = self.reported_wrong + self.reported_right
        return self.reported_wrong / judged if judged else None
