"""Turns as rows, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import astuple

from recollect_server.cache.model import CacheTier
from recollect_server.chat.model import BegunTurn, FinishReason, TurnRecord, TurnState
from recollect_server.chat.turn import ChatEvent
from recollect_server.memory.model import Message, Role
from recollect_server.memory.prompt import Usage
from recollect_server.memory.tokens import estimate_message
from recollect_server.stores.codec import (
    decode_parts,
    from_microseconds,
    pack,
    to_microseconds,
    unpack,
)
from recollect_server.stores.event_codec import decode_events, encode_events
from recollect_server.stores.sql.database import Row, Transaction
from recollect_server.stores.sql.rows import MESSAGE_COLUMNS, to_message

_COLUMNS = (
    "t.turn_id, s.session_id, t.request_id, t.state, t.attempt, t.user_sequence, "
    "t.reply_sequence, t.model, t.finish_reason, t.usage, t.cost_usd, t.cache_tier, "
    "t.cache_entry_id, t.create_time, t.update_time, t.session_key, t.digest, t.lease_until, "
    "t.process, t.last_event, t.partial, t.error"
)


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn with what only the store knows of it.

    Attributes:
        lease_until: microseconds since 1970.
        error: bytes of `encode_error`.
    """

    begun: BegunTurn
    session_key: int
    digest: bytes
    lease_until: int
    process: str
    last_event: int
    error: bytes | None

    def lapsed(self, now: int) -> bool:
        """Whether it counts as running though its lease has ended."""
        return self.begun.turn.state is TurnState.RUNNING and self.lease_until < now


def load_turn(tx: Transaction, where: str, params: dict[str, Any]) -> TurnRow | None:
    """Return the turn of `params["user_key"]` that a condition on `t` and `s` finds."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM turns t JOIN sessions s ON s.session_key = t.session_key "
        f"WHERE t.user_key = :user_key AND {where}",
        params,
    )
    if not rows:
        return None
    record, row = _to_record(rows[0]), rows[0]
    asked = _message(tx, row[15], record.session_id, record.user_sequence)
    assert asked is not None, "a turn's message is deleted only with its session and the turn"
    reply = _message(tx, row[15], record.session_id, record.reply_sequence)
    if reply is None and row[20] is not None:
        reply = _partial(record, row[20])
    begun = BegunTurn(record, asked, fresh=False, reply=reply)
    return TurnRow(begun, row[15], row[16], row[17], row[18], row[19], row[21])


def _to_record(row: Row) -> TurnRecord:
    return TurnRecord(
        turn_id=row[0],
        session_id=row[1],
        request_id=row[2],
        state=TurnState(row[3]),
        attempt=row[4],
        user_sequence=row[5],
        reply_sequence=row[6],
        model=row[7],
        finish_reason=FinishReason(row[8]) if row[8] is not None else None,
        usage=Usage(*unpack(row[9])),
        cost_usd=row[10],
        cache_tier=CacheTier(row[11]) if row[11] is not None else None,
        cache_entry_id=row[12],
        create_time=from_microseconds(row[13]),
        update_time=from_microseconds(row[14]),
    )


def _message(tx: Transaction, session_key: int, session_id: str, sequence: int) -> Message | None:
    if not sequence:
        return None
    rows = tx.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages m WHERE session_key = :session_key "
        "AND sequence = :sequence",
        {"session_key": session_key, "sequence": sequence},
    )
    return to_message(session_id, rows[0]) if rows else None


def _partial(record: TurnRecord, data: bytes) -> Message:
    parts = decode_parts(data)
    return Message(
        message_id="",
        session_id=record.session_id,
        sequence=0,
        role=Role.ASSISTANT,
        parts=parts,
        author_name="",
        time=record.update_time,
        create_time=record.update_time,
        metadata={"turn_state": "interrupted"},
        external_id="",
        token_count=estimate_message(parts),
    )


def pack_usage(usage: Usage) -> bytes:
    """Return the bytes of a usage."""
    return pack(astuple(usage))


def save_events(
    tx: Transaction,
    user_key: int,
    session_key: int,
    turn_id: str,
    attempt: int,
    events: Sequence[ChatEvent],
    now: datetime,
) -> None:
    """Store events of an attempt that follow those stored before."""
    if events:
        tx.execute(
            "INSERT INTO turn_events (user_key, session_key, turn_id, attempt, last_event, events, "
            "create_time) VALUES (:user_key, :session_key, :turn_id, :attempt, :last_event, "
            ":events, :now) ON CONFLICT (user_key, turn_id, attempt, last_event) DO NOTHING",
            {
                "user_key": user_key,
                "session_key": session_key,
                "turn_id": turn_id,
                "attempt": attempt,
                "last_event": events[-1].sequence,
                "events": encode_events(events),
                "now": to_microseconds(now),
            },
        )


def load_events(
    tx: Transaction, user_key: int, turn_id: str, attempt: int, after: int
) -> tuple[ChatEvent, ...]:
    """Return the stored events of an attempt after a sequence, each once."""
    rows = tx.execute(
        "SELECT events FROM turn_events WHERE user_key = :user_key AND turn_id = :turn_id "
        "AND attempt = :attempt AND last_event > :after ORDER BY last_event",
        {"user_key": user_key, "turn_id": turn_id, "attempt": attempt, "after": after},
    )
    found: list[ChatEvent] = []
    for (data,) in rows:
        # A chunk that was stored twice, because its acknowledgement was lost, may overlap.
        found.extend(event for event in decode_events(data) if event.sequence > after)
        after = found[-1].sequence if found else after
    return tuple(found)
