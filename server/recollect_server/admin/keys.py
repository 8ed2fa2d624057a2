"""API keys: made, checked, replaced and revoked.

A key is `rk_<id>_<secret>`. The secret has 256 random bits, so SHA-256 of it cannot be reversed by
guessing, and a slow hash would only slow every call; docs/authentication.md weighs a keyed one.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from recollect_server.admin.model import ApiKey, Grants, KeyRole, Service
from recollect_server.admin.ports import ApiKeyStore
from recollect_server.errors import InvalidArgument, NotFound, Reason, Unauthenticated, Unavailable
from recollect_server.scope import RequestKey

log = structlog.get_logger("recollect.keys")

PREFIX = "rk_"
_TOKEN = re.compile(r"rk_([0-9a-f]{16})_([0-9A-Za-z_-]{43})")
REVOCATION_SECONDS = 5.0
"""Longest time that a key revoked by another process is still accepted."""
USE_SECONDS = 60.0
"""How often the times of last use are written."""
OVERLAP = timedelta(hours=24)
"""How long a replaced key is still accepted, unless the caller says."""


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
        self._used: dict[str, datetime] = {}

    async def create(
        self,
        tenant: str,
        *,
        name: str,
        user_id: str = "",
        grants: Grants,
        expire_time: datetime | None = None,
        request: RequestKey | None = None,
    ) -> CreatedKey:
        """Make a key.

        A secret is kept nowhere, so a repeated request cannot be given the first one: its key gets
        a new one, and whoever repeats holds the one that is valid.

        Raises:
            InvalidArgument: no name or no role; a key for one user that administers, which could
                make itself a key for all; or an expiry that is not in the future.
            FailedPrecondition: REQUEST_ID_REUSED.
        """
        return await self._add(tenant, name, user_id, grants, expire_time, request)

    async def rotate(
        self,
        tenant: str,
        key_id: str,
        *,
        expire_time: datetime | None = None,
        overlap: timedelta = OVERLAP,
        request: RequestKey | None = None,
    ) -> CreatedKey:
        """Make a key that may do what another one may, which expires after the overlap.

        Args:
            expire_time: of the new key.

        Raises:
            NotFound: API_KEY_NOT_FOUND.
            InvalidArgument: the other key is not valid any more, or see `create`.
        """
        found = await self._store.find_key(key_id)
        if found is None or found[0].tenant != tenant:
            raise NotFound(Reason.API_KEY_NOT_FOUND, "API key", key_id)
        old, now = found[0], self._clock()
        if not old.valid(now):
            raise InvalidArgument("replaces", "the key is expired or revoked: make a new one")
        created = await self._add(
            tenant,
            old.name,
            old.user_id,
            old.grants,
            expire_time,
            request,
            replaces=(key_id, now + overlap),
        )
        self._known.pop(key_id, None)
        return created

    async def _add(
        self,
        tenant: str,
        name: str,
        user_id: str,
        grants: Grants,
        expire_time: datetime | None,
        request: RequestKey | None,
        replaces: tuple[str, datetime] | None = None,
    ) -> CreatedKey:
        now = self._clock()
        if not name:
            raise InvalidArgument("name", "must not be empty")
        if not grants:
            raise InvalidArgument("role", "must be given, or a role on a service")
        if user_id and grants.on(Service.ADMIN) is KeyRole.ADMIN:
            raise InvalidArgument("user_id", "must be empty for an ADMIN key")
        if expire_time is not None and expire_time <= now:
            raise InvalidArgument("expire_time", "must be in the future")
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        new = ApiKey(key_id, tenant, name, user_id, grants, now, expire_time)
        key = await self._store.add_key(new, _hash(secret), request, replaces)
        self._known.pop(key.key_id, None)
        return CreatedKey(key, f"{PREFIX}{key.key_id}_{secret}")

    def recent(self, token: str) -> ApiKey | None:
        """Return the key of a token if it is valid by what was read within the last seconds."""
        match = _TOKEN.fullmatch(token)
        known = self._known.get(match[1]) if match is not None else None
        if match is None or known is None:
            return None
        now = self._clock()
        if now.timestamp() - known.read_at >= REVOCATION_SECONDS:
            return None
        return self._checked(known, match[2], now)

    async def authenticate(self, token: str) -> ApiKey:
        """Return the key of a token.

        Raises:
            Unauthenticated: CREDENTIAL_INVALID: unknown, expired or revoked, not said which.
            Unavailable: the keys cannot be read.
        """
        match = _TOKEN.fullmatch(token)
        known = await self._find(match[1]) if match is not None else None
        if match is not None and known is not None:
            key = self._checked(known, match[2], self._clock())
            if key is not None:
                return key
        raise Unauthenticated(
            Reason.CREDENTIAL_INVALID, "the API key is unknown, expired or revoked"
        )

    def _checked(self, known: _Known, secret: str, now: datetime) -> ApiKey | None:
        """Return the key if the secret is its own and it is valid, and note its use."""
        if not hmac.compare_digest(known.secret_hash, _hash(secret)) or not known.key.valid(now):
            return None
        self._used[known.key.key_id] = now
        return known.key

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

    async def run(self) -> None:
        """Write times of last use each minute, until cancelled."""
        while True:
            await asyncio.sleep(USE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write the times of last use that are not written yet; another try follows a failure."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.used(used)
        except Unavailable:
            self._used = used | self._used
            log.warning("times of last use are not written: the database is unavailable")

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
