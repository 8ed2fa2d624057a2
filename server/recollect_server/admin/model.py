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
