"""How turns begin: one of a session at a time, the others in a queue, and a repeat as before."""

from dataclasses import replace
from datetime import datetime, timedelta

from recollect_server.chat.model import (
    MAX_INTERRUPTED_ATTEMPTS,
    BegunTurn,
    TurnRecord,
    TurnStart,
    TurnState,
)
from recollect_server.errors import Aborted, Reason
from recollect_server.memory.model import Appended
from recollect_server.memory.prompt import Usage
from recollect_server.scope import Scope
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql import turn_leases
from recollect_server.stores.sql.database import Transaction
from recollect_server.stores.sql.messages import find_session
from recollect_server.stores.sql.turn_rows import TurnRow, load_turn, pack_usage

QUEUED_FOR = timedelta(seconds=10)
"""How long a turn keeps its place among those that wait without asking again."""

_SECOND = 1_000_000


def find_request(tx: Transaction, user_key: int, start: TurnStart) -> TurnRow | None:
    """Return the turn that an earlier request of the same id began."""
    return load_turn(
        tx,
        "t.method = :method AND t.request_id = :request_id",
        {
            "user_key": user_key,
            "method": start.request.method,
            "request_id": start.request.request_id,
        },
    )


def may_run_again(found: TurnRow, now: int) -> bool:
    """Whether a repeated request runs its turn again: it failed, or was interrupted once."""
    turn = found.begun.turn
    if turn.state is TurnState.FAILED:
        return True
    interrupted = turn.state is TurnState.INTERRUPTED or found.lapsed(now)
    return interrupted and turn.attempt < MAX_INTERRUPTED_ATTEMPTS


def is_next(
    tx: Transaction, scope: Scope, user_key: int, session_id: str, start: TurnStart, now: int
) -> bool:
    """Whether no turn of the session runs and none waits before this one; else queue it."""
    session_key, _ = find_session(tx, scope, session_id, now)
    here = {"session_key": session_key, "now": now}
    running = tx.execute(
        "SELECT turn_id, lease_until FROM turns WHERE session_key = :session_key AND state = 1",
        here,
    )
    # What is left of a server that died must change nothing any more, now that others go on.
    for turn_id, lease_until in running:
        if lease_until < now:
            turn_leases.interrupt(tx, user_key, turn_id, now)
    busy = any(lease_until >= now for _, lease_until in running)
    waiting = tx.execute(
        "SELECT turn_id FROM turn_queue WHERE session_key = :session_key AND until >= :now "
        "ORDER BY turn_id LIMIT 1",
        here,
    )
    if not busy and (not waiting or waiting[0][0] >= start.turn_id):
        if waiting:
            leave_queue(tx, user_key, start.turn_id)
        return True
    if not start.wait:
        raise Aborted(Reason.TURN_IN_PROGRESS, "another turn of the session is running")
    tx.execute(
        "INSERT INTO turn_queue (user_key, session_key, turn_id, until) "
        "VALUES (:user_key, :session_key, :turn_id, :until) "
        "ON CONFLICT (session_key, turn_id) DO UPDATE SET until = :until",
        {
            "user_key": user_key,
            "session_key": session_key,
            "turn_id": start.turn_id,
            "until": now + QUEUED_FOR // timedelta(microseconds=1),
        },
    )
    return False


def leave_queue(tx: Transaction, user_key: int, turn_id: str) -> None:
    """Give up a turn's place among those that wait."""
    tx.execute(
        "DELETE FROM turn_queue WHERE user_key = :user_key AND turn_id = :turn_id",
        {"user_key": user_key, "turn_id": turn_id},
    )


def begin(
    tx: Transaction,
    session_id: str,
    stored: tuple[int, int, Appended],
    start: TurnStart,
    now: datetime,
) -> BegunTurn:
    """Begin a turn whose message was `append`ed."""
    user_key, session_key, appended = stored
    record = TurnRecord(
        turn_id=start.turn_id,
        session_id=session_id,
        request_id=start.request.request_id,
        state=TurnState.RUNNING,
        attempt=1,
        user_sequence=appended.messages[0].sequence,
        reply_sequence=0,
        model=start.model,
        finish_reason=None,
        usage=Usage(),
        cost_usd=0.0,
        cache_tier=None,
        cache_entry_id="",
        create_time=now,
        update_time=now,
    )
    tx.execute(
        "INSERT INTO turns (user_key, turn_id, session_key, method, request_id, digest, state, "
        "attempt, lease_until, process, user_sequence, reply_sequence, model, usage, cost_usd, "
        "cache_entry_id, create_time, update_time) VALUES (:user_key, :turn_id, :session_key, "
        ":method, :request_id, :digest, :state, 1, :until, :process, :user_sequence, 0, :model, "
        ":usage, 0, '', :now, :now)",
        {
            "user_key": user_key,
            "turn_id": start.turn_id,
            "session_key": session_key,
            "method": start.request.method,
            "request_id": start.request.request_id,
            "digest": start.request.digest,
            "state": int(TurnState.RUNNING),
            "until": _lease_end(start, now),
            "process": start.process,
            "user_sequence": record.user_sequence,
            "model": start.model,
            "usage": pack_usage(record.usage),
            "now": to_microseconds(now),
        },
    )
    return BegunTurn(record, appended.messages[0], fresh=True, reply=None)


def take_over(
    tx: Transaction, user_key: int, found: TurnRow, start: TurnStart, now: datetime
) -> BegunTurn:
    """Begin another attempt at a turn."""
    turn = found.begun.turn
    tx.execute(
        "UPDATE turns SET state = :state, attempt = attempt + 1, lease_until = :until, "
        "process = :process, cancelled = 0, last_event = 0, partial = NULL, error = NULL, "
        "update_time = :now WHERE user_key = :user_key AND turn_id = :turn_id",
        {
            "state": int(TurnState.RUNNING),
            "until": _lease_end(start, now),
            "process": start.process,
            "now": to_microseconds(now),
            "user_key": user_key,
            "turn_id": turn.turn_id,
        },
    )
    again = replace(turn, state=TurnState.RUNNING, attempt=turn.attempt + 1, update_time=now)
    return replace(found.begun, turn=again, fresh=True, reply=None)


def _lease_end(start: TurnStart, now: datetime) -> int:
    return to_microseconds(now) + int(start.lease_seconds * _SECOND)
