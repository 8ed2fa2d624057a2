"""The nouns of the answer cache."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from recollect_server.memory.model import Part
from recollect_server.memory.prompt import Usage


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


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A stored answer.

    Attributes:
        entry_id: hex digest of what the exact tier keys on.
        user_id: the only user it may be served to; "" in GLOBAL.
        session_id: the only session it may be served in; "" unless the scope is SESSION.
        question: text of the last message of the prompt, for people who list entries.
        holds_memory: the prompt held a user's memory, so the answer stays with that user.
        cited_fact_ids: facts the answer rests on.
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


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """How to store an answer; `ttl` is counted from the store and not extended by hits."""

    ttl: timedelta = timedelta(minutes=30)
    tags: tuple[str, ...] = ()
    cited_fact_ids: tuple[str, ...] = ()
    holds_memory: bool = False


@dataclass(frozen=True, slots=True)
class LookupResult:
    """A hit with its entry, or a miss with its reason.

    Attributes:
        probability: that the entry answers this conversation; 1.0 for the exact tier.
    """

    entry: CacheEntry | None
    tier: CacheTier | None = None
    probability: float = 0.0
    miss_reason: MissReason | None = None
