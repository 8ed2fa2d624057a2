"""The nouns of administration."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Self


class KeyRole(IntEnum):
    """What a credential may do, each role including those before it.

    Values equal `recollect.v1.KeyRole`; NONE allows what any valid credential may do.
    """

    NONE = 0
    READER = 1
    WRITER = 2
    ADMIN = 3


class Service(StrEnum):
    """A service of the contract, by its short name."""

    MEMORY = "memory"
    CACHE = "cache"
    CHAT = "chat"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Grants:
    """Which role a credential has on which service.

    Written as words: a role for every service, and `SERVICE=ROLE` for one that differs, as in
    `reader cache=writer`.

    Attributes:
        role: on every service that `services` does not name.
        services: the services that differ, in the order of their names.
    """

    role: KeyRole = KeyRole.NONE
    services: tuple[tuple[Service, KeyRole], ...] = ()

    def on(self, service: Service) -> KeyRole:
        """Return the role on a service."""
        for named, role in self.services:
            if named is service:
                return role
        return self.role

    def __bool__(self) -> bool:
        """Whether they allow anything."""
        return bool(self.role) or any(role for _, role in self.services)

    def __str__(self) -> str:
        words = [self.role.name.lower()] if self.role else []
        return " ".join(words + [f"{name}={role.name.lower()}" for name, role in self.services])

    @classmethod
    def of(cls, role: KeyRole, services: Mapping[Service, KeyRole]) -> Self:
        """Return a role on every service, except where `services` says another."""
        return cls(role, tuple(sorted(services.items())))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what the words say.

        Raises:
            ValueError: a word is neither a role nor SERVICE=ROLE, or something is said twice.
        """
        role, services = None, dict[Service, KeyRole]()
        for word in text.split():
            name, separator, value = word.rpartition("=")
            found = _ROLES.get(value)
            if found is None or (separator and name not in list(Service)):
                raise ValueError(f"{word!r} is neither reader, writer, admin nor SERVICE=ROLE")
            if (role is not None) if not name else (name in services):
                raise ValueError(f"{word!r}: a role for the same was already given")
            if name:
                services[Service(name)] = found
            else:
                role = found
        return cls.of(role or KeyRole.NONE, services)


_ROLES = {role.name.lower(): role for role in KeyRole}


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
        last_use_time: when it was last accepted, as of a minute ago; None for never.
    """

    key_id: str
    tenant: str
    name: str
    user_id: str
    grants: Grants
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    last_use_time: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoke_time is None and (self.expire_time is None or now < self.expire_time)
