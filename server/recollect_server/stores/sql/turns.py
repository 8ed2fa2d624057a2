"""Turns of chat: begun with the user's message, closed with the reply, one transaction each."""

from collections.abc import Callable
from dataclasses import astuple, replace
from datetime import datetime
from typing import Any

from recollect_server.cache.model import CacheTier
from recollect_server.chat.model import BegunTurn, FinishReason, TurnRecord, TurnState
from recollect_server.errors import Aborted, NotFound, Reason
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.model import Appended, Message, NewMessage
from recollect_server.memory.prompt import Usage
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import from_microseconds, pack, to_microseconds, unpack
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.messages import append, find_session, session_not_found
from recollect_server.stores.sql.requests import check_digest
from recollect_server.stores.sql.rows import GOES_ON, MESSAGE_COLUMNS, to_message
from recollect_server.stores.sql.users import find_user

_COLUMNS = (
    "t.turn_id, s.session_id, t.request_id, t.state, t.attempt, t.user_sequence, "
    "t.reply_sequence, t.model, t.finish_reason, t.usage, t.cost_usd, t.cache_tier, "
    "t.cache_entry_id, t.create_time, t.update_time"
)
MAX_INTERRUPTED_ATTEMPTS = 2
_SECOND = 1_000_000


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
    rows = tx.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages m WHERE session_key = :session_key "
        "AND sequence = :sequence",
        {"session_key": session_key, "sequence": sequence},
    )
    return to_message(session_id, rows[0]) if rows else None


def _load(tx: Transaction, where: str, params: dict[str, Any]) -> tuple[BegunTurn, Row] | None:
    rows = tx.execute(
        f"SELECT {_COLUMNS}, t.session_key, t.digest, t.lease_until FROM turns t "
        f"JOIN sessions s ON s.session_key = t.session_key WHERE t.user_key = :user_key "
        f"AND {where}",
        params,
    )
    if not rows:
        return None
    record, session_key = _to_record(rows[0]), rows[0][15]
    asked = _message(tx, session_key, record.session_id, record.user_sequence)
    assert asked is not None, "a turn's message is deleted only with its session and the turn"
    reply = _message(tx, session_key, record.session_id, record.reply_sequence)
    return BegunTurn(record, asked, fresh=False, reply=reply), rows[0]


class SqlTurnStore:
    """Implements `chat.ports.TurnStore`.

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

    async def begin_turn(
        self,
        scope: Scope,
        session_id: str,
        message: NewMessage,
        *,
        turn_id: str,
        model: str,
        request: RequestKey,
        lease_seconds: float,
    ) -> BegunTurn:
        """See `TurnStore`."""
        now = self._clock()
        until = to_microseconds(now) + int(lease_seconds * _SECOND)

        def work(tx: Transaction) -> BegunTurn:
            user = find_user(tx, scope, lock=True)
            if user is not None:
                found = _load(
                    tx,
                    "t.method = :method AND t.request_id = :request_id",
                    {
                        "user_key": user[0],
                        "method": request.method,
                        "request_id": request.request_id,
                    },
                )
                if found is not None:
                    begun, row = found
                    find_session(tx, scope, begun.turn.session_id, to_microseconds(now))
                    check_digest(row[16], request)
                    return _repeat(tx, user[0], begun, row[17], to_microseconds(now), until)
            appended = append(tx, scope, session_id, [message], now, self._policy)
            return _begin(tx, session_id, appended, turn_id, model, request, now, until)

        return await self._database.write(work, scope)

    async def finish_turn(
        self, scope: Scope, turn: TurnRecord, reply: NewMessage | None, state: TurnState
    ) -> tuple[TurnRecord, Message | None]:
        """See `TurnStore`."""
        now = self._clock()
        return await self._database.write(
            lambda tx: _finish(tx, scope, turn, reply, state, now, self._policy), scope
        )

    async def get_turn(self, scope: Scope, turn_id: str) -> BegunTurn:
        """See `TurnStore`."""
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> BegunTurn:
            user = find_user(tx, scope)
            found = user and _load(
                tx,
                f"t.turn_id = :turn_id AND {GOES_ON}",
                {"user_key": user[0], "turn_id": turn_id, "now": now},
            )
            if not found:
                raise NotFound(Reason.TURN_NOT_FOUND, "turn", turn_id)
            begun, row = found
            if begun.turn.state is TurnState.RUNNING and row[17] < now:
                return replace(begun, turn=replace(begun.turn, state=TurnState.INTERRUPTED))
            return begun

        return await self._database.read(work)


def _begin(
    tx: Transaction,
    session_id: str,
    stored: tuple[int, int, Appended],
    turn_id: str,
    model: str,
    request: RequestKey,
    now: datetime,
    until: int,
) -> BegunTurn:
    user_key, session_key, appended = stored
    record = TurnRecord(
        turn_id=turn_id,
        session_id=session_id,
        request_id=request.request_id,
        state=TurnState.RUNNING,
        attempt=1,
        user_sequence=appended.messages[0].sequence,
        reply_sequence=0,
        model=model,
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
        "attempt, lease_until, user_sequence, reply_sequence, model, usage, cost_usd, "
        "cache_entry_id, create_time, update_time) VALUES (:user_key, :turn_id, :session_key, "
        ":method, :request_id, :digest, :state, 1, :until, :user_sequence, 0, :model, :usage, "
        "0, '', :now, :now)",
        {
            "user_key": user_key,
            "turn_id": turn_id,
            "session_key": session_key,
            "method": request.method,
            "request_id": request.request_id,
            "digest": request.digest,
            "state": int(TurnState.RUNNING),
            "until": until,
            "user_sequence": record.user_sequence,
            "model": model,
            "usage": _pack_usage(record.usage),
            "now": to_microseconds(now),
        },
    )
    return BegunTurn(record, appended.messages[0], fresh=True, reply=None)


def _repeat(
    tx: Transaction, user_key: int, begun: BegunTurn, lease_until: int, now: int, until: int
) -> BegunTurn:
    """Decide what a repeated request gets: its stored turn, or another attempt at it."""
    turn = begun.turn
    if turn.state is TurnState.RUNNING and lease_until >= now:
        raise Aborted(Reason.TURN_IN_PROGRESS, "this turn is still running")
    interrupted = turn.state is TurnState.RUNNING and turn.attempt < MAX_INTERRUPTED_ATTEMPTS
    if turn.state is not TurnState.FAILED and not interrupted:
        if turn.state is TurnState.RUNNING:
            return replace(begun, turn=replace(turn, state=TurnState.INTERRUPTED))
        return begun
    tx.execute(
        "UPDATE turns SET state = :state, attempt = attempt + 1, lease_until = :until, "
        "update_time = :now WHERE user_key = :user_key AND turn_id = :turn_id",
        {
            "state": int(TurnState.RUNNING),
            "until": until,
            "now": now,
            "user_key": user_key,
            "turn_id": turn.turn_id,
        },
    )
    again = replace(turn, state=TurnState.RUNNING, attempt=turn.attempt + 1)
    return replace(begun, turn=again, fresh=True)


def _finish(
    tx: Transaction,
    scope: Scope,
    turn: TurnRecord,
    reply: NewMessage | None,
    state: TurnState,
    now: datetime,
    policy: DuePolicy,
) -> tuple[TurnRecord, Message | None]:
    user = find_user(tx, scope, lock=True)
    if user is None:
        raise session_not_found(turn.session_id)
    mine = {"user_key": user[0], "turn_id": turn.turn_id}
    # Only whoever runs the turn may end it, and only once.
    closed = tx.execute(
        "UPDATE turns SET state = :state, model = :model, finish_reason = :finish_reason, "
        "usage = :usage, cost_usd = :cost_usd, cache_tier = :cache_tier, "
        "cache_entry_id = :cache_entry_id, update_time = :now WHERE user_key = :user_key "
        "AND turn_id = :turn_id AND state = :running AND attempt = :attempt RETURNING 1",
        {
            **mine,
            "state": int(state),
            "running": int(TurnState.RUNNING),
            "attempt": turn.attempt,
            "model": turn.model,
            "finish_reason": turn.finish_reason,
            "usage": _pack_usage(turn.usage),
            "cost_usd": turn.cost_usd,
            "cache_tier": turn.cache_tier,
            "cache_entry_id": turn.cache_entry_id,
            "now": to_microseconds(now),
        },
    )
    if not closed:
        return _as_ended(tx, turn, mine)
    record = replace(turn, state=state, update_time=now)
    if reply is None:
        find_session(tx, scope, turn.session_id, to_microseconds(now))
        return record, None
    _, _, appended = append(tx, scope, turn.session_id, [reply], now, policy)
    sequence = appended.messages[0].sequence
    tx.execute(
        "UPDATE turns SET reply_sequence = :sequence WHERE user_key = :user_key "
        "AND turn_id = :turn_id",
        {**mine, "sequence": sequence},
    )
    return replace(record, reply_sequence=sequence), appended.messages[0]


def _as_ended(
    tx: Transaction, turn: TurnRecord, mine: dict[str, Any]
) -> tuple[TurnRecord, Message | None]:
    """Return the turn as another attempt, or this one before, has left it."""
    found = _load(tx, "t.turn_id = :turn_id", mine)
    if found is None:
        raise session_not_found(turn.session_id)
    return found[0].turn, found[0].reply


def _pack_usage(usage: Usage) -> bytes:
    return pack(list(astuple(usage)))
