"""JSON Web Tokens: who they are for, by keys that their issuer publishes and changes."""

import hashlib
import json
import time
from asyncio import Lock
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
import structlog

from recollect_server.admin.model import Grants
from recollect_server.errors import Reason, Unauthenticated, Unavailable
from recollect_server.rpc.call import Principal

log = structlog.get_logger("recollect.tokens")

REFRESH_SECONDS = 300.0
"""Age of the key set at which it is read again."""

REFETCH_SECONDS = 10.0
"""Least time between two readings, however many tokens name keys that are not known."""

TIMEOUT_SECONDS = 5.0
REMEMBERED_TOKENS = 10_000
REMEMBERED_SECONDS = 60.0
"""How long a verified token is not verified again; a signature takes 0.3 ms, a look-up 3 us."""
SERVICE = "service"
"""The word among a token's roles by which its bearer may name any user of the tenant."""
_LONGEST_ID = 256


class KeySource(Protocol):
    """Where an issuer publishes its keys."""

    async def read(self) -> bytes:
        """Return a JSON Web Key Set. Raises `OSError` or `httpx.HTTPError`."""

    async def close(self) -> None:
        """Let go of connections."""


class FileKeySource:
    """A key set in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> bytes:
        """See `KeySource`."""
        return self._path.read_bytes()

    async def close(self) -> None:
        """See `KeySource`."""


class UrlKeySource:
    """A key set at a URL; redirects are not followed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)

    async def read(self) -> bytes:
        """See `KeySource`."""
        response = await self._client.get(self._url)
        response.raise_for_status()
        if response.status_code != httpx.codes.OK:
            raise httpx.HTTPStatusError(
                f"status {response.status_code}", request=response.request, response=response
            )
        return response.content

    async def close(self) -> None:
        """See `KeySource`."""
        await self._client.aclose()


@dataclass(frozen=True, slots=True)
class _Key:
    key: Any
    algorithm: str | None


class KeySet:
    """An issuer's keys, read again when they are old and when a token names one that is not known.

    While they cannot be read, those that were read last are used.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._keys: dict[str, _Key] | None = None
        self._tried = -REFRESH_SECONDS
        self._read = -REFRESH_SECONDS
        self._reading = Lock()

    async def find(self, name: str | None) -> _Key | None:
        """Return the key of a name, or the only one where a token names none.

        Raises:
            Unavailable: no key set was read yet.
        """
        if self._keys is None or time.monotonic() - self._read >= REFRESH_SECONDS:
            await self._refresh()
        found = self._get(name)
        if found is None:
            await self._refresh()
            found = self._get(name)
        return found

    def _get(self, name: str | None) -> _Key | None:
        if self._keys is None:
            raise Unavailable(
                Reason.STORE_UNAVAILABLE, "the issuer's keys cannot be read now", REFETCH_SECONDS
            )
        if name is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(name)

    async def _refresh(self) -> None:
        async with self._reading:
            if time.monotonic() - self._tried < REFETCH_SECONDS:
                return
            self._tried = time.monotonic()
            try:
                self._keys = parse_keys(await self._source.read())
                self._read = self._tried
            except (OSError, httpx.HTTPError, ValueError) as error:
                log.warning("the issuer's keys cannot be read", error=type(error).__name__)


def parse_keys(data: bytes) -> dict[str, _Key]:
    """Return the public keys for signatures in a JSON Web Key Set, by their names.

    Raises:
        ValueError: it is not a key set, or holds no such key.
    """
    try:
        given = json.loads(data)["keys"]
        found = {}
        for one in given:
            if one.get("kty") == "oct" or one.get("use", "sig") != "sig":
                continue
            try:
                found[str(one.get("kid", ""))] = _Key(jwt.PyJWK(one).key, one.get("alg"))
            except jwt.PyJWTError:
                continue
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    if not found:
        raise ValueError("the key set holds no public key for signatures")
    return found


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say, and where it says whom it is for.

    Attributes:
        leeway: seconds that the issuer's clock may differ.
        tenant_claim: "" puts every token in the tenant `default`.
        role_prefix: what the words of roles begin with; others are ignored.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway: float
    tenant_claim: str
    user_claim: str
    role_claim: str
    role_prefix: str


class JwtVerifier:
    """Accepts signed JSON Web Tokens."""

    def __init__(self, keys: KeySet, rules: TokenRules) -> None:
        self._keys = keys
        self._rules = rules
        self._known: dict[bytes, tuple[Principal, float]] = {}

    def accepts(self, token: str) -> bool:
        """See `Verifier`."""
        return token.count(".") == 2

    def recent(self, token: str) -> Principal | None:
        """See `Verifier`."""
        found = self._known.get(_digest(token))
        return found[0] if found is not None and time.time() < found[1] else None

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        principal = self.recent(token)
        if principal is not None:
            return principal
        try:
            header = jwt.get_unverified_header(token)
            name, algorithm = header.get("kid"), header.get("alg")
            if algorithm not in self._rules.algorithms:
                raise _refused("its algorithm is not allowed")
            key = await self._keys.find(name)
            if key is None or key.algorithm not in (None, algorithm):
                raise _refused("its key is not known")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=self._rules.leeway,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError:
            raise _refused("it expired") from None
        except (jwt.PyJWTError, TypeError, ValueError):
            raise _refused("its signature, issuer, audience or times are wrong") from None
        principal = principal_of(claims, self._rules)
        self._remember(token, principal)
        return principal

    def _remember(self, token: str, principal: Principal) -> None:
        digest = _digest(token)
        self._known.pop(digest, None)
        while len(self._known) >= REMEMBERED_TOKENS:
            del self._known[next(iter(self._known))]
        until = time.time() + REMEMBERED_SECONDS
        self._known[digest] = (principal, min(until, principal.expires or until))


def principal_of(claims: Mapping[str, Any], rules: TokenRules) -> Principal:
    """Return who a token is for, by its claims.

    Raises:
        Unauthenticated: CREDENTIAL_INVALID: a claim that says it is missing or is no id.
    """
    tenant = _id(claims, rules.tenant_claim) if rules.tenant_claim else "default"
    roles = _claim(claims, rules.role_claim)
    words = roles.split() if isinstance(roles, str) else roles if isinstance(roles, list) else []
    prefix = rules.role_prefix
    said = [w[len(prefix) :] for w in words if isinstance(w, str) and w.startswith(prefix)]
    user_id = "" if SERVICE in said else _id(claims, rules.user_claim)
    subject = claims.get("sub")
    return Principal(
        tenant,
        user_id,
        _grants(said),
        f"jwt:{subject if _is_id(subject) else user_id}",
        float(claims["exp"]) + rules.leeway,
    )


def _grants(words: list[str]) -> Grants:
    """Return what the words among these allow that are roles; an issuer's others mean nothing."""
    role, services = Grants().role, dict(Grants().services)
    for word in words:
        try:
            one = Grants.parse(word)
        except ValueError:
            continue
        role = max(role, one.role)
        for service, its in one.services:
            services[service] = max(services.get(service, its), its)
    return Grants.of(role, services)


def _id(claims: Mapping[str, Any], name: str) -> str:
    found = _claim(claims, name)
    if not _is_id(found):
        raise _refused(f"its claim {name} is missing or is no id")
    return str(found)


def _is_id(value: Any) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return 0 < len(value.encode()) <= _LONGEST_ID
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim, by its name or by a path of names, as in `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(Reason.CREDENTIAL_INVALID, f"the token is not valid: {why}")
