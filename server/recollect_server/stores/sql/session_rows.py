"""Sessions as rows: made, and changed one revision at a time."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from recollect_server.errors import AlreadyExists, Reason
from recollect_server.memory.model import NewSession, Session
from recollect_server.memory.watch import ChangeType
from recollect_server.scope import Scope
from recollect_server.stores.codec import pack, to_microseconds
from recollect_server.stores.sql.changes import ChangeLog
from recollect_server.stores.sql.database import Transaction
from recollect_server.stores.sql.deletion import delete_session
from recollect_server.stores.sql.messages import ENDS_AFTER_CHANGE
from recollect_server.stores.sql.rows import SESSION_COLUMNS, duration_us, to_session
from recollect_server.stores.sql.users import step_revision

# Attributes of `Session` that can be updated, and how their values are stored.
TO_COLUMN: dict[str, Callable[[Any], Any]] = {
    "title": str,
    "metadata": lambda value: pack(dict(value)),
    "window_size": int,
    "window_ttl": duration_us,
    "idle_ttl": duration_us,
    "expire_time": lambda value: None if value is None else to_microseconds(value),
}


def as_created(session: NewSession, now: datetime) -> Session:
    """Return a session as it is when it has just been created."""
    return Session(
        session_id=session.session_id,
        title=session.title,
        retention=session.retention,
        metadata=session.metadata,
        window_size=session.window_size,
        window_ttl=session.window_ttl,
        idle_ttl=session.idle_ttl,
        expire_time=session.expire_time,
        create_time=now,
        update_time=now,
        revision=1,
        last_sequence=0,
        message_count=0,
    )


def create(tx: Transaction, scope: Scope, session: NewSession, now: datetime) -> Session:
    """Make a session, in place of one of its id that has ended. Raises `AlreadyExists`."""
    user_key, revision = step_revision(tx, scope)
    now_us = to_microseconds(now)
    expire_time = TO_COLUMN["expire_time"](session.expire_time)
    idle_ttl = duration_us(session.idle_ttl)
    ends = [time for time in (expire_time, idle_ttl and now_us + idle_ttl) if time]
    changes = ChangeLog(tx, user_key, revision, now_us)
    ended = tx.execute(
        "SELECT session_key FROM sessions WHERE user_key = :user_key "
        "AND session_id = :session_id AND ends <= :now",
        {"user_key": user_key, "session_id": session.session_id, "now": now_us},
    )
    if ended:
        delete_session(tx, changes, ended[0][0], session.session_id)
    rows = tx.execute(
        "INSERT INTO sessions (user_key, session_id, title, retention, metadata, window_size, "
        "window_ttl, idle_ttl, expire_time, ends, create_time, update_time, revision, "
        "last_sequence, window_start) VALUES (:user_key, :session_id, :title, :retention, "
        ":metadata, :window_size, :window_ttl, :idle_ttl, :expire_time, :ends, :now, :now, "
        "1, 0, 1) "
        f"ON CONFLICT (user_key, session_id) DO NOTHING RETURNING {SESSION_COLUMNS}",
        {
            "user_key": user_key,
            "session_id": session.session_id,
            "title": session.title,
            "retention": int(session.retention),
            "metadata": pack(dict(session.metadata)),
            "window_size": session.window_size,
            "window_ttl": duration_us(session.window_ttl),
            "idle_ttl": idle_ttl,
            "expire_time": expire_time,
            "ends": min(ends, default=None),
            "now": now_us,
        },
    )
    if not rows:
        raise AlreadyExists(Reason.SESSION_EXISTS, "session", session.session_id)
    changes.session(ChangeType.CREATED, rows[0])
    return to_session(rows[0])


def set_columns(
    tx: Transaction,
    step: tuple[int, int],
    session_key: int,
    columns: Mapping[str, Any],
    now: datetime,
    *,
    prolongs: bool = True,
) -> Session:
    """Set columns of a session as one revision step, and record the change.

    Args:
        step: the user's key and the revision that this change makes.
        prolongs: the change is the user's, so the idle time starts anew.
    """
    now_us = to_microseconds(now)
    assignments = "".join(f"{column} = :{column}, " for column in columns)
    rows = tx.execute(
        f"UPDATE sessions SET {assignments}revision = revision + 1, update_time = :now "
        f"WHERE session_key = :session_key RETURNING {SESSION_COLUMNS}",
        {**columns, "now": now_us, "session_key": session_key},
    )
    if prolongs:
        # In a statement of its own: it reads idle_ttl and expire_time as they are now.
        tx.execute(
            f"UPDATE sessions SET ends = {ENDS_AFTER_CHANGE} WHERE session_key = :session_key",
            {"now": now_us, "session_key": session_key},
        )
    ChangeLog(tx, *step, now_us).session(ChangeType.UPDATED, rows[0])
    return to_session(rows[0])
