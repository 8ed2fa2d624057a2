"""Sessions and their messages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from recollect_server.errors import RevisionMismatch
from recollect_server.memory.due import DuePolicy, JobKind
from recollect_server.memory.model import (
    Appended,
    Message,
    NewMessage,
    NewSession,
    Session,
    Summary,
)
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql import session_rows
from recollect_server.stores.sql.appending import AppendCall
from recollect_server.stores.sql.changes import ChangeLog, session_as_of
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.deletion import delete_session
from recollect_server.stores.sql.jobs import queue_job
from recollect_server.stores.sql.listed import listed
from recollect_server.stores.sql.messages import (
    FIND_SESSION,
    find_session,
    found_session,
    session_params,
)
from recollect_server.stores.sql.requests import idempotent, once
from recollect_server.stores.sql.rows import (
    GOES_ON,
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    pack_summary,
    to_message,
    to_session,
)
from recollect_server.stores.sql.users import find_user, step_revision


class SqlSessionStore:
    """Implements `memory.ports.SessionStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
        policy: which appends cause background work.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime], policy: DuePolicy
    ) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy

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
                run=lambda: session_rows.create(tx, scope, session, now),
                to_plain=lambda created: [created.session_id, to_microseconds(created.create_time)],
                from_plain=lambda kept: session_rows.as_created(
                    replace(session, session_id=kept[0]), from_microseconds(kept[1])
                ),
            )

        return await self._database.write(work, scope)

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """See `SessionStore`."""
        params = session_params(scope, session_id, to_microseconds(self._clock()))
        rows = await self._database.read_rows(FIND_SESSION, params)
        return found_session(rows, session_id)[1]

    async def list_sessions(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[Session, ...]:
        """See `SessionStore`."""
        time, name = after or (None, "")
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> tuple[Session, ...]:
            user = find_user(tx, scope)
            if user is None:
                return ()
            rows = tx.execute(
                f"SELECT {SESSION_COLUMNS} FROM sessions WHERE user_key = :user_key "
                "AND (ends IS NULL OR ends > :now) "
                + ("AND (update_time, session_id) < (:time, :name) " if time else "")
                + "ORDER BY update_time DESC, session_id DESC LIMIT :limit",
                {
                    "user_key": user[0],
                    "limit": limit,
                    "now": now,
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
        request: RequestKey | None = None,
    ) -> Session:
        """See `SessionStore`."""
        columns = {name: session_rows.TO_COLUMN[name](value) for name, value in changes.items()}
        now = self._clock()

        def change(tx: Transaction, step: tuple[int, int]) -> Session:
            session_key, session = find_session(tx, scope, session_id, to_microseconds(now))
            if expected_revision is not None and session.revision != expected_revision:
                raise RevisionMismatch(expected_revision, session.revision)
            return session_rows.set_columns(tx, step, session_key, columns, now)

        return await self._change_once(scope, session_id, request, now, change)

    async def clear_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> Session:
        """See `SessionStore`."""
        now = self._clock()

        def change(tx: Transaction, step: tuple[int, int]) -> Session:
            session_key, session = find_session(tx, scope, session_id, to_microseconds(now))
            last = session.last_sequence
            if last > session.episode_through:
                queue_job(tx, JobKind.EPISODE, step[0], session_key, to_microseconds(now))
            columns = {
                "window_start": last + 1,
                "summary": None,
                "summary_through": last,
                "open_tokens": 0,
            }
            return session_rows.set_columns(tx, step, session_key, columns, now)

        return await self._change_once(scope, session_id, request, now, change)

    async def save_summary(
        self,
        scope: Scope,
        session_id: str,
        summary: Summary,
        replaces_through: int,
        session_time: datetime | None = None,
    ) -> Session | None:
        """See `SessionStore`."""
        now = self._clock()

        def work(tx: Transaction) -> Session | None:
            step = step_revision(tx, scope)
            session_key, session = find_session(tx, scope, session_id, to_microseconds(now))
            if session_time not in (None, session.create_time):
                return None
            if session.summary_through != replaces_through:
                return None
            open_tokens = tx.execute(
                "SELECT COALESCE(SUM(token_count), 0) FROM messages "
                "WHERE session_key = :session_key AND sequence > :through",
                {"session_key": session_key, "through": summary.through_sequence},
            )[0][0]
            columns = {
                "summary": pack_summary(summary),
                "summary_through": summary.through_sequence,
                "open_tokens": int(open_tokens),
            }
            return session_rows.set_columns(tx, step, session_key, columns, now, prolongs=False)

        return await self._database.write(work, scope)

    async def delete_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> None:
        """See `SessionStore`."""
        now = to_microseconds(self._clock())

        def delete(tx: Transaction) -> None:
            user_key, revision = step_revision(tx, scope)
            session_key, _ = find_session(tx, scope, session_id, now)
            delete_session(tx, ChangeLog(tx, user_key, revision, now), session_key, session_id)

        await self._database.write(lambda tx: once(tx, scope, request, now, delete), scope)

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
        call = AppendCall(
            scope,
            session_id,
            tuple(messages),
            request,
            expected_revision,
            self._clock(),
            self._policy,
        )
        return await self._database.write(call, scope)

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
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> tuple[Message, ...]:
            session_key, _ = find_session(tx, scope, session_id, now)
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
        if not keys:
            return ()
        wanted, params = listed(keys)
        rows = await self._database.read_rows(
            f"WITH wanted (session_id, sequence) AS ({wanted}) "
            f"SELECT {MESSAGE_COLUMNS}, s.session_id FROM wanted w "
            "JOIN users u ON u.tenant = :tenant AND u.user_id = :user_id "
            "JOIN sessions s ON s.user_key = u.user_key AND s.session_id = w.session_id "
            "JOIN messages m ON m.session_key = s.session_key AND m.sequence = w.sequence "
            f"WHERE {GOES_ON}",
            params
            | {
                "tenant": scope.tenant,
                "user_id": scope.user_id,
                "now": to_microseconds(self._clock()),
            },
        )
        found = {(m.session_id, m.sequence): m for m in (to_message(row[-1], row) for row in rows)}
        return tuple(found[key] for key in keys if key in found)

    async def _change_once(
        self,
        scope: Scope,
        session_id: str,
        request: RequestKey | None,
        now: datetime,
        change: Callable[[Transaction, tuple[int, int]], Session],
    ) -> Session:
        """Run a change of a session, given the user's key and the revision that it makes.

        Of a repeated request the change is read again, as it was recorded to be watched.
        """

        def run(tx: Transaction) -> tuple[int, Session]:
            step = step_revision(tx, scope)
            return step[1], change(tx, step)

        def work(tx: Transaction) -> Session:
            return idempotent(
                tx,
                scope,
                request,
                to_microseconds(now),
                run=lambda: run(tx),
                to_plain=lambda done: done[0],
                from_plain=lambda kept: (kept, session_as_of(tx, scope, session_id, kept)),
            )[1]

        return await self._database.write(work, scope)
