"""What the server knows of one running call."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

from recollect_server.admin.model import Grants, KeyRole
from recollect_server.memory.audit import Caller
from recollect_server.scope import Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Attributes:
        tenant: whose data the call may touch.
        user_id: the only user the call may name; "" for a service, which may name any.
        grants: what the call may do.
        key_id: the credential, "" without authentication: an API key's id, `jwt:SUBJECT` or
            `certificate:NAME`.
        expires: seconds since 1970 from which the credential is not valid; None means never.
    """

    tenant: str
    user_id: str
    grants: Grants
    key_id: str
    expires: float | None = None


ANYONE = Principal(tenant="default", user_id="", grants=Grants(KeyRole.ADMIN), key_id="")
"""The caller of a server without authentication: a service of tenant `default`."""


class Call:
    """One running call: filled in by the interceptors, read by the servicers.

    Attributes:
        method: full name, as in `/recollect.v1.MemoryService/Recall`.
        context: gRPC's own.
        metadata: the call's metadata; of repeated keys the last.
        call_id: correlates the answer, the log and the audit.
        trace_id: of the trace that the call is part of, 32 hexadecimal digits; "" without one.
        principal: set by authentication.
        deadline: seconds on the event loop's clock, set by the deadline interceptor.
        send: of a stream; sends one answer, and returns once gRPC takes the next. An interceptor
            that looks at answers puts its own in place of it.
    """

    __slots__ = (
        "call_id",
        "context",
        "deadline",
        "metadata",
        "method",
        "principal",
        "scope_",
        "send",
        "trace_id",
    )

    send: "Send"

    def __init__(self, method: str, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        self.method = method
        self.context = context
        self.metadata: dict[str, str | bytes] = {}
        self.call_id = ""
        self.trace_id = ""
        self.principal = ANYONE
        self.deadline: float | None = None
        self.scope_: Scope | None = None

    @property
    def caller(self) -> Caller:
        """Who calls, for the audit log."""
        return Caller(self.principal.key_id, self.method.removeprefix("/"), self.call_id)

    @property
    def scope(self) -> Scope:
        """The tenant and user the call is about, set by the tenancy interceptor."""
        if self.scope_ is None:
            raise RuntimeError(f"{self.method} names no user")
        return self.scope_


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that the running task serves, for logs."""

Send = Callable[[Any], Awaitable[None]]

Unary = Callable[[Call, Any], Awaitable[Any]]
"""A handler of a call with one answer, or an interceptor around it."""

Stream = Callable[[Call, Any], Awaitable[None]]
"""A handler of a call with a stream of answers, which it gives to the call's `send`."""
