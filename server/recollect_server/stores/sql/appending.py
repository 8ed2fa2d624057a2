"""Appends: one as a function of a transaction, and many in two statements.

The second is for PostgreSQL, where every statement costs a round trip: it is worth 2 to 3 times the
rate. It does the common case of what the first does, for calls about different users; whatever is
out of the ordinary ends in `RunAgain`, and the calls are run one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import structs

from recollect_server.ids import uuid7
from recollect_server.memory.due import DuePolicy, JobKind
from recollect_server.memory.model import Appended, MemoryKind, Message, NewMessage
from recollect_server.memory.tokens import estimate_message
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import encode_parts, from_microseconds, pack, to_microseconds
from recollect_server.stores.sql.database import Row, RunAgain, Transaction
from recollect_server.stores.sql.jobs import QUEUED_AGAIN
from recollect_server.stores.sql.messages import (
    append,
    find_session,
    queue_due,
    read_messages,
    session_not_found,
    to_stored,
)
from recollect_server.stores.sql.requests import idempotent
from recollect_server.stores.sql.rows import pack_extras


@dataclass(frozen=True, slots=True)
class AppendCall:
    """An append as a function of a transaction."""

    scope: Scope
    session_id: str
    messages: tuple[NewMessage, ...]
    request: RequestKey | None
    expected_revision: int | None
    now: datetime
    policy: DuePolicy

    def __call__(self, tx: Transaction) -> Appended:
        """Append, or return what the first call of the request did."""
        return idempotent(
            tx,
            self.scope,
            self.request,
            to_microseconds(self.now),
            run=lambda: self._run(tx),
            to_plain=_to_plain,
            from_plain=lambda kept: self._again(tx, kept),
        )

    def _run(self, tx: Transaction) -> Appended:
        *_, appended = append(
            tx,
            self.scope,
            self.session_id,
            self.messages,
            self.now,
            self.policy,
            self.expected_revision,
        )
        return appended

    def _again(self, tx: Transaction, kept: Any) -> Appended:
        # The time was not kept before the schema 0002.
        first, last, revision, user_revision, *session_time = kept
        session_key, session = find_session(
            tx, self.scope, self.session_id, to_microseconds(self.now)
        )
        if session_time not in ([], [to_microseconds(session.create_time)]):
            # The request was about a session that is gone; this one was made under its id since.
            raise session_not_found(self.session_id)
        stored = read_messages(tx, session_key, self.session_id, first, last)
        return Appended(stored, revision, user_revision, session.create_time)


def _to_plain(done: Appended) -> list[int]:
    first, last = done.messages[0].sequence, done.messages[-1].sequence
    session_time = to_microseconds(done.session_time)
    return [first, last, done.session_revision, done.user_revision, session_time]


_CALLS = (
    "SELECT * FROM unnest(:n::int[], :tenants::text[], :user_ids::text[], :session_ids::text[], "
    ":counts::int[], :tokens::bigint[], :expected::bigint[], :now::bigint[]) "
    "AS c (n, tenant, user_id, session_id, count, tokens, expected, now)"
)
_MESSAGES = (
    "SELECT * FROM unnest(:of::int[], :positions::int[], :message_ids::text[], :roles::int[], "
    ":contents::bytea[], :extras::bytea[], :times::bigint[], :message_tokens::int[], "
    ":has_text::boolean[], :job_ids::text[]) AS d (n, position, message_id, role, content, extras, "
    "time, token_count, has_text, job_id)"
)

APPEND = f"""
WITH calls AS ({_CALLS}), said AS ({_MESSAGES}), stepped AS (
    INSERT INTO users (tenant, user_id, revision)
    SELECT tenant, user_id, 1 FROM calls ORDER BY tenant, user_id
    ON CONFLICT (tenant, user_id) DO UPDATE SET revision = users.revision + 1
    RETURNING user_key, tenant, user_id, revision
), done AS (
    UPDATE sessions s SET revision = s.revision + 1, last_sequence = s.last_sequence + c.count,
        update_time = c.now, open_tokens = s.open_tokens + c.tokens,
        ends = CASE WHEN s.idle_ttl = 0 THEN s.expire_time
            WHEN s.expire_time < c.now + s.idle_ttl THEN s.expire_time
            ELSE c.now + s.idle_ttl END
    FROM calls c JOIN stepped u ON u.tenant = c.tenant AND u.user_id = c.user_id
    WHERE s.user_key = u.user_key AND s.session_id = c.session_id
        AND (s.ends IS NULL OR s.ends > c.now)
        AND (c.expected IS NULL OR c.expected = s.revision)
    RETURNING c.n, s.session_key, s.user_key, u.revision AS user_revision, s.revision,
        s.last_sequence, s.last_sequence - c.count AS before, s.summary_through, s.open_tokens,
        s.extracted_through, s.create_time, c.now
), stored AS (
    INSERT INTO messages (session_key, sequence, user_key, user_revision, message_id, role,
        content, extras, time, create_time, token_count)
    SELECT o.session_key, o.before + d.position, o.user_key, o.user_revision, d.message_id, d.role,
        d.content, d.extras, d.time, o.now, d.token_count
    FROM said d JOIN done o ON o.n = d.n
), queued AS (
    INSERT INTO pending_vectors (user_key, user_revision, kind, session_key, sequence, item_id,
        create_time)
    SELECT o.user_key, o.user_revision, {int(MemoryKind.TURN)}, o.session_key,
        o.before + d.position, '', o.now
    FROM said d JOIN done o ON o.n = d.n WHERE d.has_text
), jobs_made AS (
    INSERT INTO jobs (job_id, kind, user_key, session_key, state, again, attempts, run_time, lease,
        last_error, create_time)
    SELECT MIN(d.job_id), '{JobKind.EMBED}', o.user_key, 0, 'due', 0, 0, MIN(o.now), 0, '',
        MIN(o.now)
    FROM said d JOIN done o ON o.n = d.n WHERE d.has_text GROUP BY o.user_key ORDER BY o.user_key
    {QUEUED_AGAIN}
)
SELECT n, session_key, user_key, user_revision, revision, last_sequence, summary_through,
    open_tokens, extracted_through, create_time FROM done ORDER BY n
"""

REMEMBER = (
    "INSERT INTO requests (tenant, user_id, method, request_id, digest, result, create_time) "
    "SELECT * FROM unnest(:tenants::text[], :user_ids::text[], :methods::text[], "
    ":request_ids::text[], :digests::bytea[], :results::bytea[], :now::bigint[]) "
    "ON CONFLICT (tenant, user_id, method, request_id) DO NOTHING RETURNING 1"
)


def append_together(tx: Transaction, calls: Sequence[AppendCall]) -> list[Appended]:
    """Run calls about different users; return what each did.

    Raises:
        RunAgain: not all of them could be done as if it were their first time.
    """
    tokens = [[estimate_message(m.parts) for m in call.messages] for call in calls]
    stored = [
        [
            to_stored(call.session_id, position, message, call.now, tokens[n][position - 1])
            for position, message in enumerate(call.messages, 1)
        ]
        for n, call in enumerate(calls)
    ]
    rows = tx.execute(APPEND, _call_params(calls, tokens) | _message_params(calls, stored))
    if len(rows) != len(calls):
        raise RunAgain
    done = [
        _done(tx, call, messages, row)
        for call, messages, row in zip(calls, stored, rows, strict=True)
    ]
    _remember(tx, calls, done)
    return done


def _call_params(calls: Sequence[AppendCall], tokens: list[list[int]]) -> dict[str, Any]:
    return {
        "n": list(range(len(calls))),
        "tenants": [call.scope.tenant for call in calls],
        "user_ids": [call.scope.user_id for call in calls],
        "session_ids": [call.session_id for call in calls],
        "counts": [len(call.messages) for call in calls],
        "tokens": [sum(each) for each in tokens],
        "expected": [call.expected_revision for call in calls],
        "now": [to_microseconds(call.now) for call in calls],
    }


def _message_params(calls: Sequence[AppendCall], stored: list[list[Message]]) -> dict[str, Any]:
    every = [(n, message) for n in range(len(calls)) for message in stored[n]]
    return {
        "of": [n for n, _ in every],
        "positions": [m.sequence for _, m in every],
        "message_ids": [m.message_id for _, m in every],
        "roles": [int(m.role) for _, m in every],
        "contents": [encode_parts(m.parts) for _, m in every],
        "extras": [pack_extras(m.author_name, m.metadata, m.external_id) for _, m in every],
        "times": [to_microseconds(m.time) for _, m in every],
        "message_tokens": [m.token_count for _, m in every],
        "has_text": [bool(m.text) for _, m in every],
        "job_ids": [uuid7() for _ in every],
    }


def _done(tx: Transaction, call: AppendCall, messages: list[Message], row: Row) -> Appended:
    _, session_key, user_key, user_revision, revision, last, *rest = row
    summarized, open_tokens, extracted, create_time = rest
    before = last - len(messages)
    queue_due(
        tx,
        call.policy,
        user_key,
        session_key,
        now=to_microseconds(call.now),
        first=before + 1,
        last=last,
        summarized=summarized,
        extracted=extracted,
        open_tokens=open_tokens,
        new_tokens=sum(message.token_count for message in messages),
    )
    numbered = tuple(structs.replace(m, sequence=before + m.sequence) for m in messages)
    return Appended(numbered, revision, user_revision, from_microseconds(create_time))


def _remember(tx: Transaction, calls: Sequence[AppendCall], done: list[Appended]) -> None:
    asked = [
        (call, call.request, appended)
        for call, appended in zip(calls, done, strict=True)
        if call.request is not None
    ]
    if not asked:
        return
    rows = tx.execute(
        REMEMBER,
        {
            "tenants": [call.scope.tenant for call, _, _ in asked],
            "user_ids": [call.scope.user_id for call, _, _ in asked],
            "methods": [request.method for _, request, _ in asked],
            "request_ids": [request.request_id for _, request, _ in asked],
            "digests": [request.digest for _, request, _ in asked],
            "results": [pack(_to_plain(appended)) for _, _, appended in asked],
            "now": [to_microseconds(call.now) for call, _, _ in asked],
        },
    )
    if len(rows) != len(asked):
        raise RunAgain
