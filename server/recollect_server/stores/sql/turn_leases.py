"""Turns while they run: their leases, their events, and what becomes of those left alone."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from recollect_server.chat.model import TurnState
from recollect_server.chat.ports import HeldTurn, Kept
from recollect_server.chat.reply import PartialReply
from recollect_server.stores.codec import encode_parts, to_microseconds
from recollect_server.stores.sql.database import Row, Transaction
from recollect_server.stores.sql.turn_rows import load_events, save_events

EVENTS_KEPT = timedelta(minutes=10)
"""How long after its end a turn can be resumed."""

BITE = 500


def keep(
    tx: Transaction, process: str, turns: Sequence[HeldTurn], now: datetime, until: int
) -> Kept:
    """See `TurnStore.keep_turns`; `until` in microseconds since 1970."""
    lost, cancelled = set[str](), set[str]()
    for start in range(0, len(turns), BITE):
        some = turns[start : start + BITE]
        names = {f"t{number}": turn.turn_id for number, turn in enumerate(some)}
        listed = ", ".join(f":{name}" for name in names)
        tx.execute(
            "UPDATE turns SET lease_until = :until WHERE state = 1 AND turn_id IN (SELECT turn_id "
            f"FROM turns WHERE state = 1 AND turn_id IN ({listed}) AND process = :process "
            f"AND lease_until >= :now{tx.skip_locked})",
            {**names, "process": process, "now": to_microseconds(now), "until": until},
        )
        rows = tx.execute(
            "SELECT turn_id, attempt, process, lease_until, cancelled, user_key, session_key "
            f"FROM turns WHERE state = 1 AND turn_id IN ({listed})",
            names,
        )
        found = {row[0]: row for row in rows}
        for turn in some:
            row = found.get(turn.turn_id)
            if row is None or not _is_held(row, turn, process, to_microseconds(now)):
                lost.add(turn.turn_id)
                continue
            if row[4]:
                cancelled.add(turn.turn_id)
            save_events(tx, row[5], row[6], turn.turn_id, turn.attempt, turn.events, now)
    return Kept(frozenset(lost), frozenset(cancelled))


def _is_held(row: Row, turn: HeldTurn, process: str, now: int) -> bool:
    return bool(row[1] == turn.attempt and row[2] == process and row[3] >= now)


def interrupt(tx: Transaction, user_key: int, turn_id: str, now: int) -> bool:
    """Make a running turn whose lease has ended INTERRUPTED, with what was streamed."""
    mine: dict[str, Any] = {"user_key": user_key, "turn_id": turn_id}
    rows = tx.execute(
        "UPDATE turns SET state = :state, update_time = :now WHERE user_key = :user_key "
        "AND turn_id = :turn_id AND state = 1 AND lease_until < :now RETURNING attempt",
        {**mine, "state": int(TurnState.INTERRUPTED), "now": now},
    )
    if not rows:
        return False
    events = load_events(tx, user_key, turn_id, rows[0][0], 0)
    said = PartialReply.of(events).parts()
    tx.execute(
        "UPDATE turns SET partial = :partial, last_event = :last_event "
        "WHERE user_key = :user_key AND turn_id = :turn_id",
        {
            **mine,
            "partial": encode_parts(said) if said else None,
            "last_event": events[-1].sequence if events else 0,
        },
    )
    return True


def interrupt_lapsed(tx: Transaction, now: int) -> int:
    """See `TurnStore`."""
    rows = tx.execute(
        "SELECT user_key, turn_id FROM turns WHERE state = 1 AND lease_until < :now "
        f"LIMIT {BITE}{tx.skip_locked}",
        {"now": now},
    )
    return sum(interrupt(tx, user_key, turn_id, now) for user_key, turn_id in rows)


def prune_events(tx: Transaction, now: datetime) -> int:
    """See `TurnStore`."""
    rows = tx.execute(
        "DELETE FROM turn_events WHERE (user_key, turn_id, attempt, last_event) IN (SELECT "
        "e.user_key, e.turn_id, e.attempt, e.last_event FROM turn_events e "
        "WHERE e.create_time < :before AND NOT EXISTS (SELECT 1 FROM turns t "
        "WHERE t.user_key = e.user_key AND t.turn_id = e.turn_id AND (t.state = 1 "
        "OR t.update_time >= :before)) LIMIT :bite) RETURNING 1",
        {"before": to_microseconds(now - EVENTS_KEPT), "bite": BITE},
    )
    return len(rows)
