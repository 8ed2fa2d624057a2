"""Facts about a user: every version is a row, the current one is marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from recollect_server.errors import AlreadyExists, InvalidArgument, NotFound, Reason
from recollect_server.ids import uuid7
from recollect_server.memory.extraction import to_fact as to_new_fact
from recollect_server.memory.model import ExtractedFact, Fact, MemoryKind, NewFact, Remembered
from recollect_server.memory.watch import ChangeType
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.changes import ChangeLog
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.messages import find_session
from recollect_server.stores.sql.pending import bury, forget_pending, queue_facts
from recollect_server.stores.sql.requests import idempotent
from recollect_server.stores.sql.rows import FACT_COLUMNS, fact_params, to_fact
from recollect_server.stores.sql.users import find_user, step_revision


def _not_found(fact_id: str) -> NotFound:
    return NotFound(Reason.FACT_NOT_FOUND, "fact", fact_id)


def _current(tx: Transaction, user_key: int, fact_id: str) -> Fact | None:
    rows = tx.execute(
        f"SELECT {FACT_COLUMNS} FROM facts WHERE user_key = :user_key AND fact_id = :fact_id "
        "AND is_current = 1",
        {"user_key": user_key, "fact_id": fact_id},
    )
    return to_fact(rows[0]) if rows else None


def _insert(tx: Transaction, user_key: int, revision: int, fact: Fact) -> bool:
    """Insert a version as the current one; False if there is one of that number."""
    rows: list[Row] = tx.execute(
        f"INSERT INTO facts (user_key, is_current, user_revision, {FACT_COLUMNS}) VALUES "
        "(:user_key, 1, :revision, :fact_id, :version, :text, :metadata, :confidence, "
        ":valid_from, :valid_to, :recorded_at, :sources, :superseded_by) "
        "ON CONFLICT (user_key, fact_id, version) DO NOTHING RETURNING 1",
        {"user_key": user_key, "revision": revision, **fact_params(fact)},
    )
    return bool(rows)


class SqlFactStore:
    """Implements `memory.ports.FactStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def remember(
        self, scope: Scope, facts: Sequence[NewFact], request: RequestKey | None
    ) -> Remembered:
        """See `FactStore`."""
        now = self._clock()

        def work(tx: Transaction) -> Remembered:
            def again(kept: Any) -> Remembered:
                fact_ids, revision, time = kept
                stored = _as_given(facts, fact_ids, from_microseconds(time))
                return Remembered(stored, revision)

            return idempotent(
                tx,
                scope,
                request,
                to_microseconds(now),
                run=lambda: _remember(tx, scope, facts, now),
                to_plain=lambda done: [
                    [fact.fact_id for fact in done.facts],
                    done.user_revision,
                    to_microseconds(now),
                ],
                from_plain=again,
            )

        return await self._database.write(work, scope)

    async def save_extracted(
        self,
        scope: Scope,
        session_id: str,
        facts: Sequence[ExtractedFact],
        *,
        model: str,
        through: int,
        replaces_through: int,
        session_time: datetime | None = None,
    ) -> tuple[Fact, ...] | None:
        """See `FactStore`."""
        now = self._clock()

        def work(tx: Transaction) -> tuple[Fact, ...] | None:
            user_key, revision = step_revision(tx, scope)
            session_key, session = find_session(tx, scope, session_id, to_microseconds(now))
            if session_time not in (None, session.create_time):
                return None
            if session.extracted_through != replaces_through:
                return None
            tx.execute(
                "UPDATE sessions SET extracted_through = :through WHERE session_key = :session_key",
                {"through": through, "session_key": session_key},
            )
            found = {fact.text: fact for fact in facts}.values()
            new = [fact for fact in found if not _is_held(tx, user_key, fact.text)]
            stored = tuple(to_new_fact(fact, session_id, uuid7(), model, now) for fact in new)
            _store(tx, user_key, revision, stored, now)
            return stored

        return await self._database.write(work, scope)

    async def get_fact(self, scope: Scope, fact_id: str) -> Fact:
        """See `FactStore`."""
        found = await self.get_facts(scope, [fact_id])
        if not found:
            raise _not_found(fact_id)
        return found[0]

    async def get_facts(self, scope: Scope, fact_ids: Sequence[str]) -> tuple[Fact, ...]:
        """See `FactStore`."""
        if not fact_ids:
            return ()
        return await self._database.read(lambda tx: _by_ids(tx, scope, fact_ids))

    async def list_facts(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None, valid_only: bool
    ) -> tuple[Fact, ...]:
        """See `FactStore`."""
        time, name = after or (None, "")
        params: dict[str, Any] = {"limit": limit}
        clauses = "WHERE user_key = :user_key AND is_current = 1 "
        if time is not None:
            clauses += "AND (recorded_at, fact_id) < (:time, :name) "
            params |= {"time": to_microseconds(time), "name": name}
        if valid_only:
            clauses += "AND (valid_to IS NULL OR valid_to > :now) "
            params["now"] = to_microseconds(self._clock())

        def work(tx: Transaction) -> tuple[Fact, ...]:
            user = find_user(tx, scope)
            if user is None:
                return ()
            rows = tx.execute(
                f"SELECT {FACT_COLUMNS} FROM facts {clauses}"
                "ORDER BY recorded_at DESC, fact_id DESC LIMIT :limit",
                params | {"user_key": user[0]},
            )
            return tuple(to_fact(row) for row in rows)

        return await self._database.read(work)

    async def update_fact(self, scope: Scope, fact_id: str, changes: Mapping[str, object]) -> Fact:
        """See `FactStore`."""
        now = self._clock()
        return await self._database.write(
            lambda tx: _update(tx, scope, fact_id, changes, now), scope
        )

    async def forget_fact(self, scope: Scope, fact_id: str) -> None:
        """See `FactStore`."""
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> None:
            user_key, revision = step_revision(tx, scope)
            params = {"user_key": user_key, "fact_id": fact_id}
            where = "WHERE user_key = :user_key AND fact_id = :fact_id"
            if not tx.execute(f"DELETE FROM facts {where} RETURNING 1", params):
                raise _not_found(fact_id)
            forget_pending(tx, user_key, MemoryKind.FACT, fact_id)
            bury(tx, user_key, revision, MemoryKind.FACT, [fact_id])
            ChangeLog(tx, user_key, revision, now).fact(ChangeType.DELETED, fact_id)

        await self._database.write(work, scope)

    async def fact_history(self, scope: Scope, fact_id: str) -> tuple[Fact, ...]:
        """See `FactStore`."""

        def work(tx: Transaction) -> tuple[Fact, ...]:
            user = find_user(tx, scope)
            rows = tx.execute(
                f"SELECT {FACT_COLUMNS} FROM facts WHERE user_key = :user_key "
                "AND fact_id = :fact_id ORDER BY version",
                {"user_key": user[0] if user else 0, "fact_id": fact_id},
            )
            if not rows:
                raise _not_found(fact_id)
            return tuple(to_fact(row) for row in rows)

        return await self._database.read(work)


def _by_ids(tx: Transaction, scope: Scope, fact_ids: Sequence[str]) -> tuple[Fact, ...]:
    user = find_user(tx, scope)
    if user is None:
        return ()
    found = (_current(tx, user[0], fact_id) for fact_id in fact_ids)
    return tuple(fact for fact in found if fact is not None)


def _as_given(facts: Sequence[NewFact], fact_ids: Sequence[str], now: datetime) -> tuple[Fact, ...]:
    """Return the first versions of facts."""
    return tuple(
        Fact(
            fact_id=fact_id,
            version=1,
            text=fact.text,
            metadata=fact.metadata,
            confidence=fact.confidence,
            valid_from=fact.valid_from or now,
            valid_to=fact.valid_to,
            recorded_at=now,
        )
        for fact, fact_id in zip(facts, fact_ids, strict=True)
    )


def _remember(tx: Transaction, scope: Scope, facts: Sequence[NewFact], now: datetime) -> Remembered:
    user_key, revision = step_revision(tx, scope)
    stored = _as_given(facts, [fact.fact_id or uuid7() for fact in facts], now)
    _store(tx, user_key, revision, stored, now)
    return Remembered(stored, revision)


def _store(
    tx: Transaction, user_key: int, revision: int, facts: Sequence[Fact], now: datetime
) -> None:
    changes = ChangeLog(tx, user_key, revision, to_microseconds(now))
    for fact in facts:
        if _current(tx, user_key, fact.fact_id) or not _insert(tx, user_key, revision, fact):
            raise AlreadyExists(Reason.FACT_EXISTS, "fact", fact.fact_id)
        changes.fact(ChangeType.CREATED, fact.fact_id, fact.version)
    queue_facts(tx, user_key, revision, [f.fact_id for f in facts], to_microseconds(now))


def _is_held(tx: Transaction, user_key: int, text: str) -> bool:
    rows = tx.execute(
        "SELECT 1 FROM facts WHERE user_key = :user_key AND is_current = 1 AND text = :text "
        "AND valid_to IS NULL LIMIT 1",
        {"user_key": user_key, "text": text},
    )
    return bool(rows)


def _update(
    tx: Transaction, scope: Scope, fact_id: str, changes: Mapping[str, object], now: datetime
) -> Fact:
    user_key, revision = step_revision(tx, scope)
    before = _current(tx, user_key, fact_id)
    if before is None:
        raise _not_found(fact_id)
    values: dict[str, Any] = dict(changes)
    if values.get("text") == "":
        raise InvalidArgument("fact.text", "must not be empty")
    if "valid_from" in values and values["valid_from"] is None:
        values["valid_from"] = now
    after = replace(before, **values, version=before.version + 1, recorded_at=now)
    if after.valid_to is not None and after.valid_to <= after.valid_from:
        raise InvalidArgument("fact.valid_to", "must be later than valid_from")
    tx.execute(
        "UPDATE facts SET is_current = 0, vector = NULL, vector_model = NULL "
        "WHERE user_key = :user_key AND fact_id = :fact_id AND is_current = 1",
        {"user_key": user_key, "fact_id": fact_id},
    )
    _insert(tx, user_key, revision, after)
    queue_facts(tx, user_key, revision, [fact_id], to_microseconds(now))
    log = ChangeLog(tx, user_key, revision, to_microseconds(now))
    log.fact(ChangeType.UPDATED, fact_id, after.version)
    return after
