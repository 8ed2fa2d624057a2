"""Sessions and their messages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from recollect_server.errors import AlreadyExists, Reason, RevisionMismatch
from recollect_server.memory.model import (
    Appended,
    MemoryKind,
    Message,
    NewMessage,
    NewSession,
    Session,
)
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import (
    from_microseconds,
    pack,
    to_microseconds,
    unpack,
)
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.messages import append, find_session, read_messages
from recollect_server.stores.sql.pending import bury, forget_pending_fact
from recollect_server.stores.sql.requests import idempotent
from recollect_server.stores.sql.rows import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    duration_us,
    to_message,
    to_session,
)
from recollect_server.stores.sql.users import find_user, step_revision

# Attributes of `Session` that can be updated, and how their values are stored.
_TO_COLUMN: dict[str, Callable[[Any], Any]] = {
    "title": str,
    "metadata": lambda value: pack(dict(value)),
    "window_size": int,
    "window_ttl": duration_us,
    "idle_ttl": duration_us,
}


class SqlSessionStore:
    """Implements `memory.ports.SessionStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """See `SessionStore`."""
        now = self._clock()

        def work(tx: Transaction) -> Session:
            return idempotent(
                tx,
                scope,
                request,
                to_microseconds(now),
                run=lambda: _create(tx, scope, session, now),
                to_plain=lambda created: [created.session_id, to_microseconds(created.create_time)],
                from_plain=lambda kept: _as_created(
                    replace(session, session_id=kept[0]), from_microseconds(kept[1])
                ),
            )

        return await self._database.write(work)

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """See `SessionStore`."""
        return await self._database.read(lambda tx: find_session(tx, scope, session_id)[1])

    async def list_sessions(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[Session, ...]:
        """See `SessionStore`."""
        time, name = after or (None, "")

        def work(tx: Transaction) -> tuple[Session, ...]:
            user = find_user(tx, scope)
            if user is None:
                return ()
            rows = tx.execute(
                f"SELECT {SESSION_COLUMNS} FROM sessions WHERE user_key = :user_key "
                + ("AND (update_time, session_id) < (:time, :name) " if time else "")
                + "ORDER BY update_time DESC, session_id DESC LIMIT :limit",
                {
                    "user_key": user[0],
                    "limit": limit,
                    **({"time": to_microseconds(time), "name": name} if time else {}),
                },
            )
            return tuple(to_session(row) for row in rows)

        return await self._database.read(work)

    async def update_session(
        self,
        scope: Scope,
        session_id: str,
        changes: Mapping[str, object],
        expected_revision: int | None,
    ) -> Session:
        """See `SessionStore`."""
        columns = {name: _TO_COLUMN[name](value) for name, value in changes.items()}
        return await self._change(scope, session_id, columns, expected_revision)

    async def clear_session(self, scope: Scope, session_id: str) -> Session:
        """See `SessionStore`."""

        def work(tx: Transaction) -> Session:
            _, session = find_session(tx, scope, session_id)
            columns = {"window_start": session.last_sequence + 1, "summary": None}
            return _change(tx, scope, session_id, columns, self._clock(), None)

        return await self._database.write(work)

    async def delete_session(self, scope: Scope, session_id: str) -> None:
        """See `SessionStore`."""
        await self._database.write(lambda tx: _delete(tx, scope, session_id))

    async def append_messages(
        self,
        scope: Scope,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        request: RequestKey | None,
        expected_revision: int | None,
    ) -> Appended:
        """See `SessionStore`."""
        now = self._clock()

        def work(tx: Transaction) -> Appended:
            def again(kept: Any) -> Appended:
                first, last, revision, user_revision = kept
                session_key, _ = find_session(tx, scope, session_id)
                stored = read_messages(tx, session_key, session_id, first, last)
                return Appended(stored, revision, user_revision)

            return idempotent(
                tx,
                scope,
                request,
                to_microseconds(now),
                run=lambda: append(tx, scope, session_id, messages, now, expected_revision)[1],
                to_plain=lambda done: [
                    done.messages[0].sequence,
                    done.messages[-1].sequence,
                    done.session_revision,
                    done.user_revision,
                ],
                from_plain=again,
            )

        return await self._database.write(work)

    async def list_messages(
        self,
        scope: Scope,
        session_id: str,
        *,
        limit: int,
        after: int | None,
        before: int | None,
        since: datetime | None,
        newest_first: bool,
    ) -> tuple[Message, ...]:
        """See `SessionStore`."""
        bounds = {
            "m.sequence > :after": after,
            "m.sequence < :before": before,
            "m.time >= :since": to_microseconds(since) if since is not None else None,
        }
        used = {
            clause.rpartition(":")[2]: value
            for clause, value in bounds.items()
            if value is not None
        }
        clauses = "".join(f"AND {c} " for c, value in bounds.items() if value is not None)
        order = "DESC" if newest_first else "ASC"

        def work(tx: Transaction) -> tuple[Message, ...]:
            session_key, _ = find_session(tx, scope, session_id)
            rows = tx.execute(
                f"SELECT {MESSAGE_COLUMNS} FROM messages m WHERE m.session_key = :session_key "
                f"{clauses}ORDER BY m.sequence {order} LIMIT :limit",
                {"session_key": session_key, "limit": limit, **used},
            )
            return tuple(to_message(session_id, row) for row in rows)

        return await self._database.read(work)

    async def find_messages(
        self, scope: Scope, keys: Sequence[tuple[str, int]]
    ) -> tuple[Message, ...]:
        """See `SessionStore`."""

        def one(tx: Transaction, user_key: int, session_id: str, sequence: int) -> list[Any]:
            return tx.execute(
                f"SELECT {MESSAGE_COLUMNS} FROM messages m JOIN sessions s "
                "ON s.session_key = m.session_key WHERE s.user_key = :user_key "
                "AND s.session_id = :session_id AND m.sequence = :sequence",
                {"user_key": user_key, "session_id": session_id, "sequence": sequence},
            )

        def work(tx: Transaction) -> tuple[Message, ...]:
            user = find_user(tx, scope) if keys else None
            if user is None:
                return ()
            return tuple(
                to_message(session_id, row)
                for session_id, sequence in keys
                for row in one(tx, user[0], session_id, sequence)
            )

        return await self._database.read(work)

    async def _change(
        self,
        scope: Scope,
        session_id: str,
        columns: Mapping[str, Any],
        expected_revision: int | None,
    ) -> Session:
        now = self._clock()
        return await self._database.write(
            lambda tx: _change(tx, scope, session_id, columns, now, expected_revision)
        )


def _as_created(session: NewSession, now: datetime) -> Session:
    """Return a session as it is when it has just been created."""
    return Session(
        session_id=session.session_id,
        title=session.title,
        retention=session.retention,
        metadata=session.metadata,
        window_size=session.window_size,
        window_ttl=session.window_ttl,
        idle_ttl=session.idle_ttl,
        create_time=now,
        update_time=now,
        revision=1,
        last_sequence=0,
        message_count=0,
    )


def _create(tx: Transaction, scope: Scope, session: NewSession, now: datetime) -> Session:
    user_key, _ = step_revision(tx, scope)
    rows = tx.execute(
        "INSERT INTO sessions (user_key, session_id, title, retention, metadata, window_size, "
        "window_ttl, idle_ttl, create_time, update_time, revision, last_sequence, window_start) "
        "VALUES (:user_key, :session_id, :title, :retention, :metadata, :window_size, "
        ":window_ttl, :idle_ttl, :now, :now, 1, 0, 1) "
        "ON CONFLICT (user_key, session_id) DO NOTHING RETURNING session_key",
        {
            "user_key": user_key,
            "session_id": session.session_id,
            "title": session.title,
            "retention": int(session.retention),
            "metadata": pack(dict(session.metadata)),
            "window_size": session.window_size,
            "window_ttl": duration_us(session.window_ttl),
            "idle_ttl": duration_us(session.idle_ttl),
            "now": to_microseconds(now),
        },
    )
    if not rows:
        raise AlreadyExists(Reason.SESSION_EXISTS, "session", session.session_id)
    return _as_created(session, now)


def _change(
    tx: Transaction,
    scope: Scope,
    session_id: str,
    columns: Mapping[str, Any],
    now: datetime,
    expected_revision: int | None,
) -> Session:
    session_key, session = find_session(tx, scope, session_id)
    if expected_revision is not None and session.revision != expected_revision:
        raise RevisionMismatch(expected_revision, session.revision)
    assignments = "".join(f"{column} = :{column}, " for column in columns)
    rows = tx.execute(
        f"UPDATE sessions SET {assignments}revision = revision + 1, update_time = :now "
        f"WHERE session_key = :session_key RETURNING {SESSION_COLUMNS}",
        {**columns, "now": to_microseconds(now), "session_key": session_key},
    )
    return to_session(rows[0])


def _delete(tx: Transaction, scope: Scope, session_id: str) -> None:
    user_key, user_revision = step_revision(tx, scope)
    session_key, _ = find_session(tx, scope, session_id)
    here = {"session_key": session_key}
    gone = tx.execute("SELECT message_id FROM messages WHERE session_key = :session_key", here)
    bury(tx, user_key, user_revision, MemoryKind.TURN, [row[0] for row in gone])
    for table in ("messages", "message_vectors", "pending_vectors", "turns", "sessions"):
        tx.execute(f"DELETE FROM {table} WHERE session_key = :session_key", here)
    facts = tx.execute(
        "SELECT fact_id, sources FROM facts WHERE user_key = :user_key AND is_current = 1",
        {"user_key": user_key},
    )
    orphans = [
        fact_id
        for fact_id, data in facts
        if (sources := unpack(data)) and all(source[0] == session_id for source in sources)
    ]
    bury(tx, user_key, user_revision, MemoryKind.FACT, orphans)
    for fact_id in orphans:
        forget_pending_fact(tx, user_key, fact_id)
        tx.execute(
            "DELETE FROM facts WHERE user_key = :user_key AND fact_id = :fact_id",
            {"user_key": user_key, "fact_id": fact_id},
        )
