"""Facts about a user: every version is a row, the current one is marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from recollect_server.errors import NotFound
from recollect_server.memory.fact_plan import Plan, as_given
from recollect_server.memory.model import (
    Fact,
    FactAction,
    FactKind,
    MemoryKind,
    NewFact,
    Reconciled,
    Remembered,
)
from recollect_server.memory.watch import ChangeType
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.changes import ChangeLog
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.fact_digest import digest
from recollect_server.stores.sql.fact_notices import note_facts
from recollect_server.stores.sql.fact_writes import FactWriter, no_such_fact
from recollect_server.stores.sql.listed import listed
from recollect_server.stores.sql.messages import find_session
from recollect_server.stores.sql.pending import bury, forget_pending
from recollect_server.stores.sql.requests import idempotent, once
from recollect_server.stores.sql.rows import FACT_COLUMNS, to_fact
from recollect_server.stores.sql.users import KEY_OF_USER, find_user, step_revision

_CURRENT = f"SELECT {FACT_COLUMNS} FROM facts WHERE user_key = {KEY_OF_USER} AND is_current = 1 "


class SqlFactStore:
    """Implements `memory.ports.FactStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def remember(
        self,
        scope: Scope,
        facts: Sequence[NewFact],
        request: RequestKey | None,
        plan: Plan | None = None,
    ) -> Remembered:
        """See `FactStore`."""
        now = self._clock()
        todo = plan or as_given(facts, now)

        def work(tx: Transaction) -> Remembered:
            return idempotent(
                tx,
                scope,
                request,
                to_microseconds(now),
                run=lambda: _remember(tx, scope, todo, now),
                to_plain=lambda done: _to_plain(done, now),
                from_plain=lambda kept: _again(tx, scope, facts, kept),
            )

        return await self._database.write(work, scope)

    async def save_extracted(
        self,
        scope: Scope,
        session_id: str,
        plan: Plan,
        *,
        through: int,
        replaces_through: int,
        session_time: datetime | None = None,
    ) -> tuple[Reconciled, ...] | None:
        """See `FactStore`."""
        now = self._clock()

        def work(tx: Transaction) -> tuple[Reconciled, ...] | None:
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
            return FactWriter(tx, user_key, revision, now).carry_out(plan)

        return await self._database.write(work, scope)

    async def same_facts(self, scope: Scope, text: str) -> tuple[Fact, ...]:
        """See `FactStore`."""
        rows = await self._database.read_rows(
            f"{_CURRENT}AND digest = :digest ORDER BY recorded_at, fact_id",
            {"tenant": scope.tenant, "user_id": scope.user_id, "digest": digest(text)},
        )
        return tuple(to_fact(row) for row in rows)

    async def get_fact(self, scope: Scope, fact_id: str) -> Fact:
        """See `FactStore`."""
        found = await self.get_facts(scope, [fact_id])
        if not found:
            raise no_such_fact(fact_id)
        return found[0]

    async def get_facts(self, scope: Scope, fact_ids: Sequence[str]) -> tuple[Fact, ...]:
        """See `FactStore`."""
        if not fact_ids:
            return ()
        wanted, params = listed([(fact_id,) for fact_id in fact_ids])
        rows = await self._database.read_rows(
            f"{_CURRENT}AND fact_id IN ({wanted})",
            params | {"tenant": scope.tenant, "user_id": scope.user_id},
        )
        found = {fact.fact_id: fact for fact in map(to_fact, rows)}
        return tuple(found[fact_id] for fact_id in fact_ids if fact_id in found)

    async def list_facts(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        valid_only: bool,
        kinds: frozenset[FactKind] = frozenset(),
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
        if kinds:
            clauses += f"AND kind IN ({', '.join(str(int(kind)) for kind in sorted(kinds))}) "

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

    async def update_fact(
        self,
        scope: Scope,
        fact_id: str,
        changes: Mapping[str, object],
        expected_version: int | None = None,
        request: RequestKey | None = None,
    ) -> Fact:
        """See `FactStore`."""
        now = self._clock()

        def update(tx: Transaction) -> Fact:
            user_key, revision = step_revision(tx, scope)
            writer = FactWriter(tx, user_key, revision, now)
            return writer.update(fact_id, changes, expected_version)

        def work(tx: Transaction) -> Fact:
            return idempotent(
                tx,
                scope,
                request,
                to_microseconds(now),
                run=lambda: update(tx),
                to_plain=lambda fact: fact.version,
                from_plain=lambda version: _version(tx, scope, fact_id, version),
            )

        return await self._database.write(work, scope)

    async def forget_fact(
        self, scope: Scope, fact_id: str, request: RequestKey | None = None
    ) -> None:
        """See `FactStore`."""
        now = to_microseconds(self._clock())

        def forget(tx: Transaction) -> None:
            user_key, revision = step_revision(tx, scope)
            params = {"user_key": user_key, "fact_id": fact_id}
            where = "WHERE user_key = :user_key AND fact_id = :fact_id"
            if not tx.execute(f"DELETE FROM facts {where} RETURNING 1", params):
                raise no_such_fact(fact_id)
            forget_pending(tx, user_key, MemoryKind.FACT, fact_id)
            bury(tx, user_key, revision, MemoryKind.FACT, [fact_id])
            note_facts(tx, user_key, revision, [fact_id], now)
            ChangeLog(tx, user_key, revision, now).fact(ChangeType.DELETED, fact_id)

        await self._database.write(lambda tx: once(tx, scope, request, now, forget), scope)

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
                raise no_such_fact(fact_id)
            return tuple(to_fact(row) for row in rows)

        return await self._database.read(work)


def _remember(tx: Transaction, scope: Scope, plan: Plan, now: datetime) -> Remembered:
    user_key, revision = step_revision(tx, scope)
    results = FactWriter(tx, user_key, revision, now).carry_out(plan)
    return Remembered(results, revision, plan.by_rules)


def _to_plain(done: Remembered, now: datetime) -> list[Any]:
    results = [[r.fact.fact_id, r.fact.version, int(r.action)] for r in done.results]
    return [results, done.user_revision, to_microseconds(now), done.by_rules]


def _again(tx: Transaction, scope: Scope, facts: Sequence[NewFact], kept: Any) -> Remembered:
    """Return what a request did; a fact forgotten since then as it was given.

    A server before schema 0005 kept the ids alone.
    """
    results, revision, time, *by_rules = kept
    given = as_given(facts, from_microseconds(time))
    done: list[Reconciled] = []
    for step, result in zip(given.steps, results, strict=True):
        if isinstance(result, str):
            fact_id, version, action = result, 1, int(FactAction.ADDED)
        else:
            fact_id, version, action = result
        try:
            fact = _version(tx, scope, fact_id, version)
        except NotFound:
            fact = replace(step.fact, fact_id=fact_id, version=version)
        done.append(Reconciled(fact, FactAction(action)))
    return Remembered(tuple(done), revision, bool(by_rules and by_rules[0]))


def _version(tx: Transaction, scope: Scope, fact_id: str, version: int) -> Fact:
    """Return a version of a fact.

    Raises:
        NotFound: FACT_NOT_FOUND, it has been forgotten since.
    """
    user = find_user(tx, scope)
    rows = tx.execute(
        f"SELECT {FACT_COLUMNS} FROM facts WHERE user_key = :user_key "
        "AND fact_id = :fact_id AND version = :version",
        {"user_key": user[0] if user else 0, "fact_id": fact_id, "version": version},
    )
    if not rows:
        raise no_such_fact(fact_id)
    return to_fact(rows[0])
