"""Records calls in the audit log, by the methods that the settings name."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import cache
from typing import Any, NamedTuple

import structlog
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from recollect_server.admin.model import KeyRole
from recollect_server.errors import PermissionDenied, RecollectError
from recollect_server.memory.audit import AuditLog
from recollect_server.rpc.authorization import ROLE_OF
from recollect_server.rpc.call import Call, Stream, Unary
from recollect_server.rpc.status import STATUS_OF
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.auditing")

GROUPS = {"reads": KeyRole.READER, "writes": KeyRole.WRITER, "admin": KeyRole.ADMIN}
"""What names all methods that need a role, but `LISTING`."""

LISTING = "ListAuditEvents"
"""Recorded where it is named itself: each look at the log would add to it."""

OWN_EVENT = "EraseUser"
"""It records itself, without the user's name, and again would bring that back."""

LONGEST_USER_ID = 256

_NOT_RESOURCES = frozenset({"user_id", "request_id", "call_id"})


def audited(words: Iterable[str]) -> frozenset[str]:
    """Return the full names of the methods that words name: groups, or methods.

    Raises:
        ValueError: a word names neither.
    """
    found: set[str] = set()
    for word in words:
        named = {
            f"/{service}/{method}"
            for service, methods in ROLE_OF.items()
            for method, role in methods.items()
            if word == method or (GROUPS.get(word) is role and method != LISTING)
        }
        if not named:
            raise ValueError(f"{word!r} is neither reads, writes, admin nor a method")
        found |= named
    return frozenset(name for name in found if not name.endswith(f"/{OWN_EVENT}"))


class Audited(NamedTuple):
    """What is recorded, and where.

    Attributes:
        methods: full names, as in `/recollect.v1.MemoryService/Recall`.
    """

    events: AuditLog
    methods: frozenset[str]


class Auditing:
    """Records what methods did, durably before their answer leaves.

    A unary call is recorded when it ended, with its code; a stream before its first item leaves,
    or when it ends without one. For the arguments see `Audited`.
    """

    def __init__(self, events: AuditLog, methods: frozenset[str]) -> None:
        self._events = events
        self._methods = methods

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        methods = self._methods

        # Not a coroutine of its own: each that a call passes through costs it microseconds.
        def handler(call: Call, request: Any) -> Awaitable[Any]:
            return (recorded if call.method in methods else inner)(call, request)

        async def recorded(call: Call, request: Any) -> Any:
            seen = request if isinstance(request, Message) else _Upload(request)
            try:
                response = await inner(call, seen)
            except BaseException as error:
                await self._record(call, seen, None, _outcome(error))
                raise
            await self._record(call, seen, response, "OK")
            return response

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""

        methods = self._methods

        def handler(call: Call, request: Any) -> Awaitable[None]:
            return (recorded if call.method in methods else inner)(call, request)

        async def recorded(call: Call, request: Any) -> None:
            send, begun = call.send, False

            async def send_recorded(answer: Any) -> None:
                nonlocal begun
                if not begun:
                    begun = True
                    await self._record(call, request, answer, "OK")
                await send(answer)

            call.send = send_recorded
            try:
                await inner(call, request)
            except BaseException as error:
                if not begun:
                    await self._record(call, request, None, _outcome(error))
                raise
            if not begun:
                await self._record(call, request, None, "OK")

        return handler

    async def _record(self, call: Call, request: Any, response: Any, outcome: str) -> None:
        user_id = call.scope_.user_id if call.scope_ is not None else ""
        if isinstance(request, _Upload):
            user_id = request.user_id
        scope = Scope(call.principal.tenant, user_id)
        event = self._events.record(scope, call.caller, resource(request, response), outcome)
        # A caller that hangs up does not prevent the record of what was done.
        await asyncio.shield(event)


class AuditedRefusals:
    """Records calls of audited methods that a credential does not allow.

    They name no user: nothing was checked about the one they asked for.
    """

    def __init__(self, events: AuditLog, methods: frozenset[str]) -> None:
        self._events = events
        self._methods = methods

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        methods = self._methods

        def handler(call: Call, request: Any) -> Awaitable[Any]:
            return (watched if call.method in methods else inner)(call, request)

        async def watched(call: Call, request: Any) -> Any:
            try:
                return await inner(call, request)
            except PermissionDenied:
                await self._record(call)
                raise

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        return self.unary(inner)

    async def _record(self, call: Call) -> None:
        try:
            scope = Scope(call.principal.tenant, "")
            await self._events.record(scope, call.caller, "", "PERMISSION_DENIED")
        except RecollectError as error:
            log.error("a refusal is not in the audit log", reason=error.reason)


class _Upload:
    """The requests of a stream; it remembers whom the first one names."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self.user_id = ""

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for request in self._requests:
            self.user_id = self.user_id or getattr(request, "user_id", "")[:LONGEST_USER_ID]
            yield request


def resource(request: Any, response: Any) -> str:
    """Return the ids that a request names, and those of what the response made or shows first."""
    found: dict[str, str] = {}
    for message in (request, *_parts(response)):
        if isinstance(message, Message):
            for name in _id_fields(message.DESCRIPTOR):
                if value := getattr(message, name):
                    found.setdefault(name, value)
    return " ".join(f"{name}={value}" for name, value in found.items())


def _parts(response: Any) -> tuple[Any, ...]:
    if not isinstance(response, Message):
        return ()
    set_fields = response.ListFields()
    return (response, *(value for _, value in set_fields if isinstance(value, Message)))


@cache
def _id_fields(descriptor: Descriptor) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in descriptor.fields
        if field.name.endswith("_id")
        and field.name not in _NOT_RESOURCES
        and field.type == FieldDescriptor.TYPE_STRING
        and not field.is_repeated
    )


def _outcome(error: BaseException) -> str:
    if isinstance(error, RecollectError):
        return STATUS_OF[type(error)].name
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    return "INTERNAL"
