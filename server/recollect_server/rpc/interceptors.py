"""What happens around every call, in one order: `order` in `interceptors()`.

An interceptor wraps a unary handler `(call, request) -> response` and a streaming handler
`(call, request) -> None`, which gives its answers to `call.send`: an interceptor costs nothing for
each of them, unless it puts a `send` of its own in place.
"""

import asyncio
import re
from collections.abc import Awaitable
from typing import Any, Protocol

import grpc
import structlog
from google.protobuf.message import Message
from protovalidate import Validator

from recollect_server import errors
from recollect_server.admin.gate import Gate
from recollect_server.errors import Reason, RecollectError
from recollect_server.ids import uuid7
from recollect_server.rpc.call import Call, Stream, Unary, current_call
from recollect_server.rpc.call_log import CallLog
from recollect_server.rpc.counting import CallCounts, Counting
from recollect_server.rpc.status import DETAILS_KEY, internal_status, to_status
from recollect_server.rpc.times import malformed_times
from recollect_server.rpc.violations import describe
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.rpc")

CALL_ID_KEY = "x-request-id"
MOST_BYTES_TO_LIST = 4096
"""Bytes of a request of which all violations are looked for; of a larger one the first is.

A violation takes two bytes to commit and microseconds to find, while every other call waits.
"""

_CALL_ID = re.compile(r"[!-~]{1,128}")


class Interceptor(Protocol):
    """Wraps the handlers of one kind of concern."""

    def unary(self, inner: Unary) -> Unary:
        """Wrap a unary handler."""

    def stream(self, inner: Stream) -> Stream:
        """Wrap a streaming handler."""


class Check:
    """An interceptor that only looks ahead of the handler, and raises to refuse."""

    def check(self, call: Call, request: Any) -> Awaitable[None] | None:
        """Look at a call; raise a `RecollectError` to refuse it, at once or when awaited."""

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        check = self.check

        # Not a coroutine of its own: each that a call passes through costs it microseconds.
        def handler(call: Call, request: Any) -> Awaitable[Any]:
            waiting = check(call, request)
            return inner(call, request) if waiting is None else _after(waiting, call, request)

        async def _after(waiting: Awaitable[None], call: Call, request: Any) -> Any:
            await waiting
            return await inner(call, request)

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        return self.unary(inner)


class CallId(Check):
    """Takes the caller's `x-request-id` or makes one, and returns it in the trailing metadata."""

    def check(self, call: Call, request: Any) -> None:
        """See `Check`."""
        call.metadata = dict(call.context.invocation_metadata() or ())
        given = call.metadata.get(CALL_ID_KEY)
        fits = isinstance(given, str) and _CALL_ID.fullmatch(given)
        call.call_id = str(given) if fits else uuid7()
        call.context.set_trailing_metadata(((CALL_ID_KEY, call.call_id),))
        current_call.set(call)


class ErrorMapping:
    """Turns domain errors into statuses and everything unexpected into INTERNAL."""

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""

        async def handler(call: Call, request: Any) -> Any:
            try:
                return await inner(call, request)
            except grpc.aio.BaseError:
                # An answer of a stream could not be sent: the caller has gone.
                raise
            except Exception as error:  # noqa: BLE001 - nothing may leave unmapped
                await _abort(call, error)

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        return self.unary(inner)


async def _abort(call: Call, error: Exception) -> None:
    if isinstance(error, RecollectError):
        code, status = to_status(error, call.call_id)
    else:
        log.error("unexpected exception", exc_info=error)
        code, status = internal_status(call.call_id)
    trailing = (
        (CALL_ID_KEY, call.call_id),
        (DETAILS_KEY, status.SerializeToString()),
    )
    await call.context.abort(code, status.message, trailing)


class Undecodable:
    """Stands for a request whose bytes are not a message of the method's type."""


class Decoding(Check):
    """Refuses what did not decode, as INVALID_ARGUMENT instead of gRPC's UNKNOWN."""

    def check(self, call: Call, request: Any) -> None:
        """See `Check`."""
        if isinstance(request, Undecodable):
            raise errors.InvalidArgument(
                "",
                "the request is not a message of this method's type, or holds text that is not "
                "UTF-8",
                Reason.UNDECODABLE_REQUEST,
            )


class Tenancy(Check):
    """Sets the scope from the credential's tenant and the request's user."""

    def check(self, call: Call, request: Any) -> None:
        """See `Check`."""
        if not isinstance(request, Message):
            return
        user_id: str | None = getattr(request, "user_id", None)
        if user_id is None:
            return
        principal = call.principal
        if principal.user_id and principal.user_id != user_id:
            raise errors.PermissionDenied(
                Reason.OTHER_USER, "user_id: the credential belongs to another user"
            )
        call.scope_ = Scope(principal.tenant, user_id)


class Validation(Check):
    """Checks the rules that the contract writes beside each field, and protobuf's own on times."""

    def __init__(self) -> None:
        self._validator = Validator()

    def check(self, call: Call, request: Any) -> None:
        """See `Check`."""
        if not isinstance(request, Message):
            return
        # First, because rules about a time that is none cannot be evaluated.
        if malformed := malformed_times(request):
            raise errors.InvalidFields(malformed)
        first_only = request.ByteSize() > MOST_BYTES_TO_LIST
        violations = self._validator.collect_violations(request, fail_fast=first_only)
        if violations:
            raise errors.InvalidFields(tuple(describe(v.proto) for v in violations))


class Erasure:
    """Keeps calls about a user away while the user is erased.

    Args:
        gate: None where no user is ever erased.
    """

    LET_IN = frozenset(
        f"/recollect.v1.AdminService/{name}" for name in ("EraseUser", "ListAuditEvents")
    )
    """Methods that tell of an erasure."""

    def __init__(self, gate: Gate | None) -> None:
        self._gate = gate

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        gate = self._gate
        if gate is None:
            return inner

        async def handler(call: Call, request: Any) -> Any:
            scope = call.scope_
            if scope is None or call.method in self.LET_IN:
                return await inner(call, request)
            with gate.passing(scope):
                return await inner(call, request)

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        return self.unary(inner)


class Deadline:
    """Bounds unary calls without a deadline by `default` seconds.

    A call with one is bounded by gRPC itself, which cancels its handler, and so is a stream.
    """

    def __init__(self, default: float) -> None:
        self._default = default

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        loop = asyncio.get_running_loop

        async def handler(call: Call, request: Any) -> Any:
            left = call.context.time_remaining()
            if left is not None:
                call.deadline = loop().time() + left
                return await inner(call, request)
            call.deadline = loop().time() + self._default
            try:
                async with asyncio.timeout_at(call.deadline):
                    return await inner(call, request)
            except TimeoutError:
                raise errors.DeadlineExceeded(
                    Reason.DEADLINE_PASSED, f"not done within {self._default:.3g} seconds"
                ) from None

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        return inner


def interceptors(
    *,
    authentication: Interceptor,
    default_deadline: float,
    limiting: Interceptor | None = None,
    gate: Gate | None = None,
    counts: CallCounts | None = None,
    refusals: Interceptor | None = None,
    auditing: Interceptor | None = None,
) -> tuple[Interceptor, ...]:
    """Return the interceptors, outermost first.

    Args:
        authentication: finds who calls, and refuses a role that is too low.
        default_deadline: seconds a unary call may take without a deadline of its own.
        limiting: refuses calls beyond the limits of their tenant and user; None for no limits.
        gate: keeps calls about users away who are being erased.
        counts: where calls are counted, None for nowhere.
        refusals: records calls that a credential does not allow.
        auditing: records calls.
    """
    order = (
        Counting(counts) if counts is not None else None,
        CallId(),
        CallLog(),
        ErrorMapping(),
        refusals,
        authentication,
        Decoding(),
        Tenancy(),
        limiting,
        Validation(),
        Erasure(gate),
        auditing,
        Deadline(default_deadline),
    )
    return tuple(each for each in order if each is not None)
