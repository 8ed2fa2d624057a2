"""Messages inside a running transaction: what sessions and turns share."""

from collections.abc import Sequence
from datetime import datetime

from recollect_server.errors import NotFound, Reason, RevisionMismatch
from recollect_server.ids import uuid7
from recollect_server.memory.due import DuePolicy, JobKind
from recollect_server.memory.model import Appended, Message, NewMessage, Session
from recollect_server.memory.tokens import estimate_message
from recollect_server.scope import Scope
from recollect_server.stores.codec import encode_parts, from_microseconds, to_microseconds
from recollect_server.stores.sql.database import Row, Transaction
from recollect_server.stores.sql.jobs import queue_job
from recollect_server.stores.sql.pending import queue_messages
from recollect_server.stores.sql.rows import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    pack_extras,
    to_message,
    to_session,
)
from recollect_server.stores.sql.users import KEY_OF_USER, step_revision

BURST_DELAY = 1_000_000
"""Microseconds until a job of a session starts: a burst of messages is worked on once."""

ENDS_AFTER_CHANGE = (
    "CASE WHEN idle_ttl = 0 THEN expire_time "
    "WHEN expire_time < :now + idle_ttl THEN expire_time ELSE :now + idle_ttl END"
)
"""When a session ends that changes now: at its expire_time, or earlier if idle until then."""

_FOR_APPEND = (
    "SELECT u.user_key, u.revision, s.session_key, s.revision, s.last_sequence, "
    "s.summary_through, s.open_tokens, s.extracted_through, s.create_time, "
    f"(SELECT j.state FROM jobs j WHERE j.kind = '{JobKind.EMBED}' AND j.user_key = u.user_key "
    "AND j.session_key = 0) "
    "FROM users u JOIN sessions s ON s.user_key = u.user_key AND s.session_id = :session_id "
    "WHERE u.tenant = :tenant AND u.user_id = :user_id AND (s.ends IS NULL OR s.ends > :now)"
)
_STEP_USER = "UPDATE users SET revision = :revision WHERE user_key = :user_key"
_STEP_SESSION = (
    "UPDATE sessions SET revision = :revision, last_sequence = :last, update_time = :now, "
    f"open_tokens = :open_tokens, ends = {ENDS_AFTER_CHANGE} WHERE session_key = :session_key"
)

FIND_SESSION = (
    f"SELECT {SESSION_COLUMNS}, session_key FROM sessions WHERE session_id = :session_id "
    f"AND user_key = {KEY_OF_USER} AND (ends IS NULL OR ends > :now)"
)


def session_not_found(session_id: str) -> NotFound:
    """Return the error for a session that the scope does not have."""
    return NotFound(Reason.SESSION_NOT_FOUND, "session", session_id)


def session_params(scope: Scope, session_id: str, now: int) -> dict[str, object]:
    """Return the parameters of `FIND_SESSION`; `now` in microseconds since 1970."""
    return {
        "session_id": session_id,
        "tenant": scope.tenant,
        "user_id": scope.user_id,
        "now": now,
    }


def found_session(rows: Sequence[Row], session_id: str) -> tuple[int, Session]:
    """Return (session_key, session) of what `FIND_SESSION` found. Raises `NotFound`."""
    if not rows:
        raise session_not_found(session_id)
    return rows[0][-1], to_session(rows[0])


def find_session(tx: Transaction, scope: Scope, session_id: str, now: int) -> tuple[int, Session]:
    """Return (session_key, session). Raises `NotFound`, also if the session has ended."""
    rows = tx.execute(FIND_SESSION, session_params(scope, session_id, now))
    return found_session(rows, session_id)


def append(
    tx: Transaction,
    scope: Scope,
    session_id: str,
    messages: Sequence[NewMessage],
    now: datetime,
    policy: DuePolicy,
    expected_revision: int | None = None,
) -> tuple[int, int, Appended]:
    """Append messages in a running transaction; return (user_key, session_key, what was done).

    Raises:
        NotFound: SESSION_NOT_FOUND.
        RevisionMismatch: the session is not at `expected_revision`.
    """
    now_us = to_microseconds(now)
    rows = tx.execute(_FOR_APPEND + tx.for_update, session_params(scope, session_id, now_us))
    if not rows:
        # For its errors: a user who is being erased has no session either.
        step_revision(tx, scope)
        raise session_not_found(session_id)
    user_key, before_user, session_key, before, *known = rows[0]
    last_before, summarized, open_before, extracted, create_time, job_state = known
    if expected_revision is not None and before != expected_revision:
        raise RevisionMismatch(expected_revision, before)
    user_revision, revision = before_user + 1, before + 1
    tokens = [estimate_message(message.parts) for message in messages]
    first, last = last_before + 1, last_before + len(messages)
    open_tokens = open_before + sum(tokens)
    tx.execute_many(_STEP_USER, [{"revision": user_revision, "user_key": user_key}])
    tx.execute_many(
        _STEP_SESSION,
        [
            {
                "revision": revision,
                "last": last,
                "now": now_us,
                "open_tokens": open_tokens,
                "session_key": session_key,
            }
        ],
    )
    stored = tuple(
        to_stored(session_id, first + position, message, now, tokens[position])
        for position, message in enumerate(messages)
    )
    _insert(tx, user_key, user_revision, session_key, stored, now_us)
    # Most often it is, and queueing it again would leave it as it is.
    job_is_due = tx.exclusive and job_state == "due"
    queue_messages(tx, user_key, user_revision, session_key, stored, now_us, job_is_due=job_is_due)
    queue_due(
        tx,
        policy,
        user_key,
        session_key,
        now=now_us,
        first=first,
        last=last,
        summarized=summarized,
        extracted=extracted,
        open_tokens=open_tokens,
        new_tokens=sum(tokens),
    )
    session_time = from_microseconds(create_time)
    return user_key, session_key, Appended(stored, revision, user_revision, session_time)


def queue_due(
    tx: Transaction,
    policy: DuePolicy,
    user_key: int,
    session_key: int,
    *,
    now: int,
    first: int,
    last: int,
    summarized: int,
    extracted: int,
    open_tokens: int,
    new_tokens: int,
) -> None:
    """Queue the jobs that new messages make due.

    Args:
        now: microseconds since 1970.
        first: sequence of the first new message.
        last: sequence of the last one.
        summarized: up to which sequence there is a summary.
        extracted: up to which sequence the session was read for facts.
        open_tokens: estimated tokens of the messages after `summarized`.
        new_tokens: of them, those of the new messages.
    """
    if policy.summary_becomes_due(
        first - 1 - summarized, open_tokens - new_tokens, last - summarized, open_tokens
    ):
        queue_job(tx, JobKind.SUMMARIZE, user_key, session_key, now, BURST_DELAY)
    if policy.extraction_becomes_due(first - 1 - extracted, last - extracted):
        queue_job(tx, JobKind.EXTRACT, user_key, session_key, now, BURST_DELAY)


def _insert(
    tx: Transaction,
    user_key: int,
    user_revision: int,
    session_key: int,
    stored: Sequence[Message],
    now_us: int,
) -> None:
    tx.execute_many(
        "INSERT INTO messages (session_key, sequence, user_key, user_revision, message_id, role, "
        "content, extras, time, create_time, token_count) VALUES (:session_key, :sequence, "
        ":user_key, :user_revision, :message_id, :role, :content, :extras, :time, :create_time, "
        ":token_count)",
        [
            {
                "session_key": session_key,
                "sequence": message.sequence,
                "user_key": user_key,
                "user_revision": user_revision,
                "message_id": message.message_id,
                "role": int(message.role),
                "content": encode_parts(message.parts),
                "extras": pack_extras(message.author_name, message.metadata, message.external_id),
                "time": to_microseconds(message.time),
                "create_time": now_us,
                "token_count": message.token_count,
            }
            for message in stored
        ],
    )


def to_stored(
    session_id: str, sequence: int, message: NewMessage, now: datetime, tokens: int
) -> Message:
    """Return a new message as it is stored."""
    return Message(
        message_id=uuid7(),
        session_id=session_id,
        sequence=sequence,
        role=message.role,
        parts=message.parts,
        author_name=message.author_name,
        time=message.time or now,
        create_time=now,
        metadata=message.metadata,
        external_id=message.external_id,
        token_count=tokens,
    )


def read_messages(
    tx: Transaction, session_key: int, session_id: str, first: int, last: int
) -> tuple[Message, ...]:
    """Return the messages of a range of sequences, both ends included."""
    rows = tx.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages m WHERE session_key = :session_key "
        "AND sequence BETWEEN :first AND :last ORDER BY sequence",
        {"session_key": session_key, "first": first, "last": last},
    )
    return tuple(to_message(session_id, row) for row in rows)
