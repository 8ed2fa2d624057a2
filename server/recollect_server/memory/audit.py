"""The audit log: who did what to whose memory. It holds ids, never what was said."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from recollect_server.scope import Scope


class Caller(Struct, frozen=True):
    """Who does something, and in which call.

    Attributes:
        key_id: the credential, "" without authentication.
        method: as in `recollect.v1.MemoryService/Recall`.
        call_id: the call's request id.
    """

    key_id: str
    method: str
    call_id: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that was done.

    Attributes:
        resource: ids of what it was done to, as in `session_id=s facts=f1,f2`.
        outcome: the gRPC status by its name, as in `OK`.
        chain_hash: ties it to all events before, in hexadecimal; "" until it is sealed.
    """

    event_id: str
    time: datetime
    caller: Caller
    user_id: str
    resource: str
    outcome: str
    chain_hash: str = ""


class AuditLog(Protocol):
    """Events, durable when `record` returns; raises `Unavailable` when the store is down."""

    async def record(self, scope: Scope, caller: Caller, resource: str, outcome: str) -> None:
        """Append an event."""

    async def list_events(
        self,
        tenant: str,
        *,
        user_id: str,
        start: datetime | None,
        end: datetime | None,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> tuple[AuditEvent, ...]:
        """Return events, newest first, after (time, event_id).

        Args:
            user_id: only events about this user; "" for all.
            start: only events of this time or later.
            end: only events before this time.
        """
