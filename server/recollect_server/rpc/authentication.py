"""Who calls: the interceptor that finds out, and the credentials a call may carry.

A token in the metadata says who calls; without one a client's certificate does. What was verified
within the last seconds is looked up without waiting, so an authenticated call costs microseconds.
"""

import asyncio
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from google.protobuf.message import Message

from recollect_server.admin.keys import PREFIX, ApiKeys
from recollect_server.admin.model import ApiKey
from recollect_server.errors import Reason, RecollectError, Unauthenticated, Unavailable
from recollect_server.rpc.authorization import Rule, authorize
from recollect_server.rpc.call import Call, Principal, Send, Stream, Unary
from recollect_server.rpc.interceptors import Undecodable

RECHECK_SECONDS = 2.0
"""How often a running stream's credential is looked at again."""

T = TypeVar("T")


class Verifier(Protocol):
    """Knows one kind of token."""

    def accepts(self, token: str) -> bool:
        """Whether the token looks like one of this kind."""

    def recent(self, token: str) -> Principal | None:
        """Return who the token is for if it was verified within the last seconds."""

    async def verify(self, token: str) -> Principal:
        """Return who the token is for.

        Raises:
            Unauthenticated: CREDENTIAL_INVALID.
            Unavailable: what it is verified with cannot be read.
        """


class PeerVerifier(Protocol):
    """Knows clients by the certificates of their connections."""

    def identify(self, call: Call) -> Principal | None:
        """Return who calls, or None for a client that is not known or whose time is over."""


class ApiKeyVerifier:
    """Accepts API keys."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    def accepts(self, token: str) -> bool:
        """See `Verifier`."""
        return token.startswith(PREFIX)

    def recent(self, token: str) -> Principal | None:
        """See `Verifier`."""
        key = self._keys.recent(token)
        return _principal(key) if key is not None else None

    async def verify(self, token: str) -> Principal:
        """See `Verifier`."""
        return _principal(await self._keys.authenticate(token))


def _principal(key: ApiKey) -> Principal:
    expires = key.expire_time.timestamp() if key.expire_time is not None else None
    return Principal(key.tenant, key.user_id, key.grants, key.key_id, expires)


class Authenticator:
    """Finds who calls, by any of the kinds of credential that the server takes.

    Args:
        verifiers: of tokens; the first that accepts one decides.
        peers: of clients' certificates, or None.
    """

    def __init__(self, verifiers: tuple[Verifier, ...], peers: PeerVerifier | None = None) -> None:
        self._verifiers = verifiers
        self._peers = peers

    def recent(self, call: Call) -> Principal | None:
        """Return who calls, if that is known without waiting."""
        header = call.metadata.get("authorization")
        if not header:
            return self._peers.identify(call) if self._peers is not None else None
        token = _token(header)
        for verifier in self._verifiers:
            if token and verifier.accepts(token):
                return verifier.recent(token)
        return None

    async def authenticate(self, call: Call) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: CREDENTIAL_MISSING or CREDENTIAL_INVALID.
            Unavailable: what the credential is verified with cannot be read.
        """
        header = call.metadata.get("authorization")
        if not header:
            peer = self._peers.identify(call) if self._peers is not None else None
            if peer is not None:
                return peer
            if self._peers is not None:
                raise Unauthenticated(
                    Reason.CREDENTIAL_INVALID, "the client's certificate is not known, or expired"
                )
            raise Unauthenticated(
                Reason.CREDENTIAL_MISSING, "send the metadata `authorization: Bearer <token>`"
            )
        token = _token(header)
        for verifier in self._verifiers:
            if token and verifier.accepts(token):
                return await verifier.verify(token)
        raise Unauthenticated(
            Reason.CREDENTIAL_INVALID,
            "the metadata `authorization` is not `Bearer <token>` of a kind that this server takes",
        )


def _token(header: str | bytes) -> str:
    if isinstance(header, str) and header[:7].lower() == "bearer ":
        return header[7:]
    return ""


class Authentication:
    """Finds who calls, refuses a role that is too low, and ends streams with their credential.

    Args:
        authenticator: None switches authentication off; every caller is `ANYONE`.
        rules: what each method asks of a credential, by full name.
    """

    def __init__(self, authenticator: Authenticator | None, rules: dict[str, Rule]) -> None:
        self._authenticator = authenticator
        self._rules = rules

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        authenticator, rules = self._authenticator, self._rules
        if authenticator is None:
            return inner

        # Not a coroutine of its own: each that a call passes through costs it microseconds.
        def handler(call: Call, request: Any) -> Awaitable[Any]:
            principal = authenticator.recent(call)
            if principal is None or not isinstance(request, Message):
                return waiting(authenticator, call, request)
            call.principal = principal
            authorize(principal, rules[call.method])
            return inner(call, request)

        async def waiting(authenticator: Authenticator, call: Call, request: Any) -> Any:
            await self._check(authenticator, call)
            if isinstance(request, Message | Undecodable):
                return await inner(call, request)
            async with _Validity(authenticator, call) as valid:
                return await valid.bound(inner(call, request))

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        authenticator = self._authenticator
        if authenticator is None:
            return inner

        async def handler(call: Call, request: Any) -> None:
            await self._check(authenticator, call)
            async with _Validity(authenticator, call) as valid:
                call.send = valid.outside(call.send)
                await valid.bound(inner(call, request))

        return handler

    async def _check(self, authenticator: Authenticator, call: Call) -> None:
        call.principal = await authenticator.authenticate(call)
        authorize(call.principal, self._rules[call.method])


class _Validity:
    """Ends what the running task waits for when the call's credential is not valid any more.

    An outage of what credentials are verified with ends nothing, a time that is over always does.
    """

    def __init__(self, authenticator: Authenticator, call: Call) -> None:
        self._authenticator = authenticator
        self._call = call
        self._refused: RecollectError | None = None
        self._inside = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._checker = asyncio.create_task(self._check())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._checker.cancel()

    async def bound(self, work: Awaitable[T]) -> T:
        """Return what the work returns.

        Raises:
            Unauthenticated: the credential's time was over first.
        """
        self._inside = True
        try:
            if self._refused is not None:
                self._task.cancel()
            return await work
        except asyncio.CancelledError:
            if self._refused is None or self._task.uncancel():
                raise
            raise self._refused from None
        finally:
            self._inside = False

    def outside(self, send: Send) -> Send:
        """Return `send` for bound work, not ended while it sends but at once thereafter."""

        async def sending(answer: Any) -> None:
            self._inside = False
            await send(answer)
            self._inside = True
            if self._refused is not None:
                raise self._refused

        return sending

    async def _check(self) -> None:
        expires = self._call.principal.expires
        while self._refused is None:
            left = RECHECK_SECONDS if expires is None else expires - time.time()
            await asyncio.sleep(max(0.0, min(RECHECK_SECONDS, left)))
            self._refused = await self._refusal()
        if self._inside:
            self._task.cancel()

    async def _refusal(self) -> RecollectError | None:
        expires = self._call.principal.expires
        if expires is not None and time.time() >= expires:
            return Unauthenticated(Reason.CREDENTIAL_INVALID, "the credential expired")
        try:
            await self._authenticator.authenticate(self._call)
        except Unauthenticated as error:
            return error
        except Unavailable:
            pass
        return None
