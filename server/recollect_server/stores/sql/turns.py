"""Turns of chat: begun with the user's message, closed with the reply, one transaction each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from recollect_server.chat.model import BegunTurn, TurnRecord, TurnStart, TurnState
from recollect_server.chat.ports import HeldTurn, Kept, TurnView
from recollect_server.chat.turn import ChatEvent
from recollect_server.errors import Aborted, NotFound, OutOfRange, Reason, RecollectError
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.model import Appended, Message, NewMessage
from recollect_server.scope import Scope
from recollect_server.stores.codec import encode_parts, to_microseconds
from recollect_server.stores.event_codec import decode_error, encode_error
from recollect_server.stores.sql import turn_beginnings, turn_leases
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.messages import append, find_session, session_not_found
from recollect_server.stores.sql.requests import check_digest
from recollect_server.stores.sql.rows import GOES_ON
from recollect_server.stores.sql.turn_rows import (
    TurnRow,
    load_events,
    load_turn,
    pack_usage,
    save_events,
)
from recollect_server.stores.sql.users import find_user

_SECOND = 1_000_000


class SqlTurnStore:
    """Implements `chat.ports.TurnStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
        policy: which appends cause background work.
        appended: told what turns append to which session, once it is durable.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        policy: DuePolicy,
        appended: Callable[[Scope, str, Appended], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy
        self._appended = appended

    async def begin_turn(
        self, scope: Scope, session_id: str, message: NewMessage, start: TurnStart
    ) -> BegunTurn | None:
        """See `TurnStore`."""
        now = self._clock()
        now_us = to_microseconds(now)

        def work(tx: Transaction) -> tuple[BegunTurn | None, Appended | None]:
            user = find_user(tx, scope, lock=True)
            if user is None:
                raise session_not_found(session_id)
            found = turn_beginnings.find_request(tx, user[0], start)
            if found is not None:
                find_session(tx, scope, found.begun.turn.session_id, now_us)
                check_digest(found.digest, start.request)
                if not turn_beginnings.may_run_again(found, now_us):
                    return found.begun, None
            if not turn_beginnings.is_next(tx, scope, user[0], session_id, start, now_us):
                return None, None
            if found is not None:
                return turn_beginnings.take_over(tx, user[0], found, start, now), None
            stored = append(tx, scope, session_id, [message], now, self._policy)
            return turn_beginnings.begin(tx, session_id, stored, start, now), stored[2]

        begun, appended = await self._database.write(work, scope)
        if appended is not None:
            self._appended(scope, session_id, appended)
        return begun

    async def leave_queue(self, scope: Scope, session_id: str, turn_id: str) -> None:
        """See `TurnStore`."""

        def work(tx: Transaction) -> None:
            user = find_user(tx, scope, lock=True)
            if user is not None:
                turn_beginnings.leave_queue(tx, user[0], turn_id)

        await self._database.write(work, scope)

    async def finish_turn(
        self,
        scope: Scope,
        turn: TurnRecord,
        reply: NewMessage | None,
        state: TurnState,
        *,
        events: tuple[ChatEvent, ...] = (),
        error: RecollectError | None = None,
    ) -> tuple[TurnRecord, Message | None]:
        """See `TurnStore`."""
        now = self._clock()

        def work(tx: Transaction) -> tuple[TurnRecord, Message | None, Appended | None]:
            user = find_user(tx, scope, lock=True)
            if user is None:
                raise session_not_found(turn.session_id)
            mine = {"user_key": user[0], "turn_id": turn.turn_id}
            session_key = _close(tx, mine, turn, reply, state, error, now, events)
            if session_key is None:
                return *_as_left(tx, turn, mine), None
            save_events(tx, user[0], session_key, turn.turn_id, turn.attempt, events, now)
            record = replace(turn, state=state, update_time=now)
            if reply is None or state is TurnState.INTERRUPTED:
                find_session(tx, scope, turn.session_id, to_microseconds(now))
                return *_as_left(tx, record, mine), None
            _, _, appended = append(tx, scope, turn.session_id, [reply], now, self._policy)
            sequence = appended.messages[0].sequence
            tx.execute(
                "UPDATE turns SET reply_sequence = :sequence WHERE user_key = :user_key "
                "AND turn_id = :turn_id",
                {**mine, "sequence": sequence},
            )
            return replace(record, reply_sequence=sequence), appended.messages[0], appended

        record, message, appended = await self._database.write(work, scope)
        if appended is not None:
            self._appended(scope, turn.session_id, appended)
        return record, message

    async def start_over(self, scope: Scope, turn: TurnRecord) -> TurnRecord:
        """See `TurnStore`."""
        now = self._clock()

        def work(tx: Transaction) -> TurnRecord:
            user = find_user(tx, scope, lock=True)
            stepped = user and tx.execute(
                "UPDATE turns SET attempt = attempt + 1, update_time = :now "
                "WHERE user_key = :user_key AND turn_id = :turn_id AND state = 1 "
                "AND attempt = :attempt RETURNING 1",
                {
                    "now": to_microseconds(now),
                    "user_key": user[0],
                    "turn_id": turn.turn_id,
                    "attempt": turn.attempt,
                },
            )
            if not stepped:
                raise Aborted(Reason.TURN_IN_PROGRESS, "the turn was taken over by another server")
            return replace(turn, attempt=turn.attempt + 1, update_time=now)

        return await self._database.write(work, scope)

    async def keep_turns(
        self, process: str, turns: Sequence[HeldTurn], lease_seconds: float
    ) -> Kept:
        """See `TurnStore`."""
        now = self._clock()
        until = to_microseconds(now) + int(lease_seconds * _SECOND)
        return await self._database.write(
            lambda tx: turn_leases.keep(tx, process, turns, now, until)
        )

    async def interrupt_lapsed(self) -> int:
        """See `TurnStore`."""
        now = to_microseconds(self._clock())
        # Nearly always there is none, which a read finds out without a transaction that writes.
        lapsed = await self._database.read_rows(
            "SELECT 1 FROM turns WHERE state = 1 AND lease_until < :now LIMIT 1", {"now": now}
        )
        if not lapsed:
            return 0
        return await self._database.write(lambda tx: turn_leases.interrupt_lapsed(tx, now))

    async def prune_events(self) -> int:
        """See `TurnStore`."""
        now = self._clock()
        return await self._database.write(lambda tx: turn_leases.prune_events(tx, now))

    async def request_cancel(self, scope: Scope, turn_id: str) -> TurnView:
        """See `TurnStore`."""
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> TurnView:
            user_key, found = _find(tx, scope, turn_id, now)
            tx.execute(
                "UPDATE turns SET cancelled = 1 WHERE user_key = :user_key "
                "AND turn_id = :turn_id AND state = 1",
                {"user_key": user_key, "turn_id": turn_id},
            )
            return _view(found, ())

        await self._settle(scope, turn_id)
        return await self._database.write(work, scope)

    async def get_turn(self, scope: Scope, turn_id: str) -> BegunTurn:
        """See `TurnStore`."""
        return (await self._settle(scope, turn_id)).begun

    async def view_turn(self, scope: Scope, turn_id: str, after: int) -> TurnView:
        """See `TurnStore`."""
        await self._settle(scope, turn_id)
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> TurnView:
            user_key, found = _find(tx, scope, turn_id, now)
            events = load_events(tx, user_key, turn_id, found.begun.turn.attempt, after)
            ended = found.begun.turn.state is not TurnState.RUNNING
            if ended and (events[-1].sequence if events else after) < found.last_event:
                raise OutOfRange(
                    Reason.RESUME_TOKEN_EXPIRED,
                    "the turn ended more than 10 minutes ago: GetTurn has its reply",
                )
            return _view(found, events)

        return await self._database.read(work)

    async def _settle(self, scope: Scope, turn_id: str) -> TurnRow:
        """Return the turn, INTERRUPTED if its lease has ended."""
        now = to_microseconds(self._clock())
        _, found = await self._database.read(lambda tx: _find(tx, scope, turn_id, now))
        if not found.lapsed(now):
            return found

        def work(tx: Transaction) -> TurnRow:
            user_key, _ = _find(tx, scope, turn_id, now)
            turn_leases.interrupt(tx, user_key, turn_id, now)
            return _find(tx, scope, turn_id, now)[1]

        return await self._database.write(work, scope)


def _find(tx: Transaction, scope: Scope, turn_id: str, now: int) -> tuple[int, TurnRow]:
    user = find_user(tx, scope)
    found = user and load_turn(
        tx,
        f"t.turn_id = :turn_id AND {GOES_ON}",
        {"user_key": user[0], "turn_id": turn_id, "now": now},
    )
    if not user or not found:
        raise NotFound(Reason.TURN_NOT_FOUND, "turn", turn_id)
    return user[0], found


def _view(found: TurnRow, events: tuple[ChatEvent, ...]) -> TurnView:
    error = decode_error(found.error) if found.error is not None else None
    return TurnView(found.begun, found.process, events, found.last_event, error)


def _close(
    tx: Transaction,
    mine: dict[str, Any],
    turn: TurnRecord,
    reply: NewMessage | None,
    state: TurnState,
    error: RecollectError | None,
    now: datetime,
    events: tuple[ChatEvent, ...],
) -> int | None:
    """End a turn and return its session_key; None if this attempt does not run any more."""
    interrupted = state is TurnState.INTERRUPTED and reply is not None
    rows = tx.execute(
        "UPDATE turns SET state = :state, model = :model, finish_reason = :finish_reason, "
        "usage = :usage, cost_usd = :cost_usd, cache_tier = :cache_tier, "
        "cache_entry_id = :cache_entry_id, update_time = :now, last_event = :last_event, "
        "partial = :partial, error = :error WHERE user_key = :user_key "
        "AND turn_id = :turn_id AND state = 1 AND attempt = :attempt RETURNING session_key",
        {
            **mine,
            "state": int(state),
            "attempt": turn.attempt,
            "model": turn.model,
            "finish_reason": turn.finish_reason,
            "usage": pack_usage(turn.usage),
            "cost_usd": turn.cost_usd,
            "cache_tier": turn.cache_tier,
            "cache_entry_id": turn.cache_entry_id,
            "now": to_microseconds(now),
            "last_event": events[-1].sequence if events else _last_kept(tx, mine, turn.attempt),
            "partial": encode_parts(reply.parts) if interrupted and reply is not None else None,
            "error": encode_error(error) if error is not None else None,
        },
    )
    return rows[0][0] if rows else None


def _last_kept(tx: Transaction, mine: dict[str, Any], attempt: int) -> int:
    rows = tx.execute(
        "SELECT COALESCE(MAX(last_event), 0) FROM turn_events WHERE user_key = :user_key "
        "AND turn_id = :turn_id AND attempt = :attempt",
        {**mine, "attempt": attempt},
    )
    last: int = rows[0][0]
    return last


def _as_left(
    tx: Transaction, turn: TurnRecord, mine: dict[str, Any]
) -> tuple[TurnRecord, Message | None]:
    """Return the turn as it is now: another attempt, or this one before, may have changed it."""
    found = load_turn(tx, "t.turn_id = :turn_id", mine)
    if found is None:
        raise session_not_found(turn.session_id)
    return found.begun.turn, found.begun.reply
