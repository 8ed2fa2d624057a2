"""API keys: made, checked and revoked.

A key is `rk_<id>_<secret>`. The secret has 256 random bits, so SHA-256 of it cannot be reversed by
guessing, and a slow hash would only slow every call.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from recollect_server.admin.model import ApiKey, KeyRole
from recollect_server.admin.ports import ApiKeyStore
from recollect_server.errors import InvalidArgument, Reason, Unauthenticated
from recollect_server.scope import RequestKey

_TOKEN = re.compile(r"rk_([0-9a-f]{16})_([0-9A-Za-z_-]{43})")
REVOCATION_SECONDS = 5.0
"""Longest time that a key revoked by another process is still accepted."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key and what a client sends; the token is nowhere else."""

    key: ApiKey
    token: str


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey
    secret_hash: bytes
    read_at: float


class ApiKeys:
    """The keys of all tenants.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, store: ApiKeyStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def create(
        self,
        tenant: str,
        *,
        name: str,
        user_id: str,
        role: KeyRole,
        expire_time: datetime | None,
        request: RequestKey | None = None,
    ) -> CreatedKey:
        """Make a key.

        A secret is kept nowhere, so a repeated request cannot be given the first one: its key gets
        a new one, and whoever repeats holds the one that is valid.

        Raises:
            InvalidArgument: an ADMIN key for one user, which could make itself a key for all; or
                an expiry that is not in the future.
            FailedPrecondition: REQUEST_ID_REUSED.
        """
        now = self._clock()
        if role is KeyRole.ADMIN and user_id:
            raise InvalidArgument("user_id", "must be empty for an ADMIN key")
        if expire_time is not None and expire_time <= now:
            raise InvalidArgument("expire_time", "must be in the future")
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        new = ApiKey(key_id, tenant, name, user_id, role, now, expire_time, None)
        key = await self._store.add_key(new, _hash(secret), request)
        self._known.pop(key.key_id, None)
        return CreatedKey(key, f"rk_{key.key_id}_{secret}")

    async def authenticate(self, token: str) -> ApiKey:
        """Return the key of a token.

        Raises:
            Unauthenticated: CREDENTIAL_INVALID: unknown, expired or revoked, not said which.
        """
        refused = Unauthenticated(
            Reason.CREDENTIAL_INVALID, "the API key is unknown, expired or revoked"
        )
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise refused
        key_id, secret = match.groups()
        known = await self._find(key_id)
        if known is None or not hmac.compare_digest(known.secret_hash, _hash(secret)):
            raise refused
        key, now = known.key, self._clock()
        if key.revoke_time is not None or (key.expire_time is not None and key.expire_time <= now):
            raise refused
        return key

    async def list(
        self, tenant: str, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[ApiKey, ...]:
        """Return a page of the tenant's keys. See `ApiKeyStore`."""
        return await self._store.list_keys(tenant, limit=limit, after=after)

    async def revoke(self, tenant: str, key_id: str) -> ApiKey:
        """Revoke a key, in this process at once. See `ApiKeyStore`."""
        key = await self._store.revoke_key(tenant, key_id)
        self._known.pop(key_id, None)
        return key

    async def _find(self, key_id: str) -> _Known | None:
        now = self._clock().timestamp()
        known = self._known.get(key_id)
        if known is not None and now - known.read_at < REVOCATION_SECONDS:
            return known
        found = await self._store.find_key(key_id)
        if found is None:
            self._known.pop(key_id, None)
            return None
        known = _Known(*found, read_at=now)
        self._known[key_id] = known
        return known


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
