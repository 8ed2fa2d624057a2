"""The audit log."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from recollect_server.admin.erasure import pseudonym
from recollect_server.ids import uuid7
from recollect_server.memory.audit import AuditEvent, Caller
from recollect_server.scope import Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.users import erased_digest, find_user


def record_event(
    tx: Transaction, scope: Scope, caller: Caller, resource: str, outcome: str, now: int
) -> str:
    """Append an event in a running transaction, and return its id; see `AuditLog.record`.

    Args:
        now: microseconds since 1970.
    """
    event_id = uuid7()
    tx.execute(
        "INSERT INTO audit_events (tenant, event_id, time, user_id, key_id, method, resource, "
        "outcome, call_id) VALUES (:tenant, :event_id, :now, :user_id, :key_id, :method, "
        ":resource, :outcome, :call_id)",
        {
            "tenant": scope.tenant,
            "event_id": event_id,
            "now": now,
            "user_id": scope.user_id,
            "key_id": caller.key_id,
            "method": caller.method,
            "resource": resource,
            "outcome": outcome,
            "call_id": caller.call_id,
        },
    )
    return event_id


def _erased(tx: Transaction, scope: Scope) -> bytes | None:
    """Return what stands for a user who is erased: an event must not bring the name back.

    A call about one may end while the erasure goes on, and come after it. A user of the same name
    who came since has it, too.
    """
    erased = erased_digest(tx, scope)
    erasures = tx.execute(
        "SELECT MIN(complete) FROM erasures WHERE erased = :erased", {"erased": erased}
    )
    complete = erasures[0][0]
    if complete is None or (complete and find_user(tx, scope) is not None):
        return None
    return erased


class SqlAuditLog:
    """Implements `memory.audit.AuditLog`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def record(self, scope: Scope, caller: Caller, resource: str, outcome: str) -> None:
        """See `AuditLog`."""
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> None:
            named, what = scope, resource
            if scope.user_id and (erased := _erased(tx, scope)):
                named, what = Scope(scope.tenant, pseudonym(erased)), ""
            record_event(tx, named, caller, what, outcome, now)

        await self._database.write(work)

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
        """See `AuditLog`."""
        params: dict[str, Any] = {"tenant": tenant, "limit": limit}
        clauses = ""
        if user_id:
            clauses += "AND user_id IN (:user_id, :erased) "
            params["user_id"] = user_id
        if start is not None:
            clauses += "AND time >= :start "
            params["start"] = to_microseconds(start)
        if end is not None:
            clauses += "AND time < :end "
            params["end"] = to_microseconds(end)
        if after is not None:
            clauses += "AND (time, event_id) < (:time, :name) "
            params |= {"time": to_microseconds(after[0]), "name": after[1]}

        def work(tx: Transaction) -> list[Row]:
            # Who was erased is found by who it was, too.
            erased = pseudonym(erased_digest(tx, Scope(tenant, user_id)))
            return tx.execute(
                "SELECT event_id, time, key_id, method, call_id, user_id, resource, outcome, "
                "chain_hash "
                f"FROM audit_events WHERE tenant = :tenant {clauses}"
                "ORDER BY time DESC, event_id DESC LIMIT :limit",
                params | {"erased": erased},
            )

        rows = await self._database.read(work)
        return tuple(
            AuditEvent(
                row[0],
                from_microseconds(row[1]),
                Caller(*row[2:5]),
                row[5],
                row[6],
                row[7],
                bytes(row[8] or b"").hex(),
            )
            for row in rows
        )
