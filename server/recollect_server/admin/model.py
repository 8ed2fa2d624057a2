"""The nouns of administration."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class KeyRole(IntEnum):
    """What a credential may do, each role including those before it.

    Values equal `recollect.v1.KeyRole`.
    """

    READER = 1
    WRITER = 2
    ADMIN = 3


class JobState(IntEnum):
    """Where a background job is; values equal `recollect.v1.JobState`."""

    DUE = 1
    RUNNING = 2
    DEAD = 3


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A background job as administrators see it.

    Attributes:
        session_id: "" for a job of the whole user.
        attempts: how often its work failed.
        run_time: when it is tried next, or its lease ends.
        last_error: one sentence, "" for none.
    """

    job_id: str
    kind: str
    user_id: str
    session_id: str
    state: JobState
    attempts: int
    run_time: datetime
    last_error: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class JobDepth:
    """Jobs of a kind and state.

    Attributes:
        lag_seconds: how long the one that is due longest has waited, 0 if none is due yet.
    """

    kind: str
    state: JobState
    count: int
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A credential of a tenant; its secret is shown once, at creation, and stored hashed.

    Attributes:
        key_id: the public part of the key, its look-up prefix.
        user_id: the only user it may name; "" makes it a service key, which may name any user of
            its tenant.
        expire_time: from then on it is refused; None means never.
        revoke_time: since when it is revoked; None while it is not.
    """

    key_id: str
    tenant: str
    name: str
    user_id: str
    role: KeyRole
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
