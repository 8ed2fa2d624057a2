"""Writing facts: what one transaction does to a user's facts, and what follows from it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from recollect_server.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    Reason,
    RevisionMismatch,
)
from recollect_server.memory.fact_plan import (
    FactsChanged,
    Plan,
    Step,
    adds_nothing,
    joined_sources,
    merged,
)
from recollect_server.memory.model import Fact, FactAction, MemoryKind, Reconciled
from recollect_server.memory.statements import related
from recollect_server.memory.watch import ChangeType, SubjectKind
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql.changes import ChangeLog
from recollect_server.stores.sql.database import Row, Transaction
from recollect_server.stores.sql.fact_digest import digest
from recollect_server.stores.sql.fact_notices import note_facts
from recollect_server.stores.sql.pending import forget_pending, queue_facts
from recollect_server.stores.sql.rows import FACT_COLUMNS, fact_params, pack_sources, to_fact


def no_such_fact(fact_id: str) -> NotFound:
    """Return the error."""
    return NotFound(Reason.FACT_NOT_FOUND, "fact", fact_id)


def current_fact(tx: Transaction, user_key: int, fact_id: str) -> Fact | None:
    """Return the current version of a fact."""
    rows = tx.execute(
        f"SELECT {FACT_COLUMNS} FROM facts WHERE user_key = :user_key AND fact_id = :fact_id "
        "AND is_current = 1",
        {"user_key": user_key, "fact_id": fact_id},
    )
    return to_fact(rows[0]) if rows else None


class FactWriter:
    """Writes a user's facts in a transaction that holds the lock on that user.

    Args:
        revision: the user's, made by the transaction.
        now: when the facts are recorded.
    """

    def __init__(self, tx: Transaction, user_key: int, revision: int, now: datetime) -> None:
        self._tx = tx
        self._user_key = user_key
        self._revision = revision
        self._now = now
        self._microseconds = to_microseconds(now)
        self._merged: set[str] = set()
        self._changes = ChangeLog(tx, user_key, revision, self._microseconds)

    def carry_out(self, plan: Plan) -> tuple[Reconciled, ...]:
        """Do what is planned; return what became of each step.

        Raises:
            FactsChanged: what was compared is not current.
            AlreadyExists: FACT_EXISTS.
        """
        since = [] if plan.as_of is None else self._written_since(plan.as_of)
        return tuple(self._carry_out(step, since) for step in plan.steps)

    def update(
        self, fact_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Fact:
        """Write the next version of a fact with attributes of `Fact` changed.

        Raises:
            NotFound: FACT_NOT_FOUND.
            RevisionMismatch: it is not at `expected_version`.
            InvalidArgument: the result would make no sense.
        """
        before = current_fact(self._tx, self._user_key, fact_id)
        if before is None:
            raise no_such_fact(fact_id)
        if expected_version is not None and before.version != expected_version:
            raise RevisionMismatch(expected_version, before.version, "expected_version", "fact")
        values: dict[str, Any] = dict(changes)
        if values.get("text") == "":
            raise InvalidArgument("fact.text", "must not be empty")
        if "valid_from" in values and values["valid_from"] is None:
            values["valid_from"] = self._now
        if "valid_to" in values and values["valid_to"] is None:
            values["superseded_by"] = ""
        after = replace(before, **values)
        if after.valid_to is not None and after.valid_to <= after.valid_from:
            raise InvalidArgument("fact.valid_to", "must be later than valid_from")
        return self._next(after)

    def _written_since(self, revision: int) -> list[Fact]:
        """Return the facts written after a revision, as they are now."""
        rows = self._tx.execute(
            "SELECT DISTINCT item_id FROM changes WHERE user_key = :user_key "
            "AND user_revision > :revision AND subject = :subject",
            {"user_key": self._user_key, "revision": revision, "subject": int(SubjectKind.FACT)},
        )
        found = (current_fact(self._tx, self._user_key, row[0]) for row in rows)
        return [fact for fact in found if fact is not None]

    def _carry_out(self, step: Step, since: list[Fact]) -> Reconciled:
        new = step.fact
        if new.valid_from == new.recorded_at:
            new = replace(new, valid_from=self._now)
        new = replace(new, recorded_at=self._now)
        held = None if step.always else self._same(step.fact)
        if held is not None:
            return self._ignore(new, held)
        if any(fact.holds_at(self._now) and related(fact.text, new.text) for fact in since):
            raise FactsChanged
        targets = [self._current_target(target) for target in step.targets]
        match step.action:
            case FactAction.IGNORED:
                return self._ignore(new, targets[0])
            case FactAction.MERGED:
                self._merged.add(targets[0].fact_id)
                after = merged(targets[0], new, step.text)
                return Reconciled(self._next(after), FactAction.MERGED)
            case _:
                self._add(new)
                for target in targets:
                    ended = max(new.valid_from, target.valid_from)
                    self._next(replace(target, valid_to=ended, superseded_by=new.fact_id))
                return Reconciled(new, step.action)

    def _same(self, new: Fact) -> Fact | None:
        """Return a fact held that says the same in the same words."""
        rows = self._tx.execute(
            f"SELECT {FACT_COLUMNS} FROM facts WHERE user_key = :user_key AND digest = :digest "
            "AND is_current = 1 AND valid_to IS NULL ORDER BY recorded_at, fact_id",
            {"user_key": self._user_key, "digest": digest(new.text)},
        )
        held = [to_fact(row) for row in rows]
        return next((fact for fact in held if adds_nothing(new, fact)), None)

    def _current_target(self, target: Fact) -> Fact:
        """Return what a step is about, as it is now.

        Its sources may have changed since it was compared, and it by an earlier step of the plan.
        """
        held = current_fact(self._tx, self._user_key, target.fact_id)
        planned = target.fact_id in self._merged
        if held is None or (held.version != target.version and not planned):
            raise FactsChanged
        return held

    def _ignore(self, new: Fact, held: Fact) -> Reconciled:
        """Join the sources: the statement stays as it was recorded, so it makes no version."""
        sources = joined_sources(held, new)
        if sources != held.sources:
            held = replace(held, sources=sources)
            self._tx.execute(
                "UPDATE facts SET sources = :sources WHERE user_key = :user_key "
                "AND fact_id = :fact_id AND is_current = 1",
                {
                    "sources": pack_sources(sources),
                    "user_key": self._user_key,
                    "fact_id": held.fact_id,
                },
            )
            self._changes.fact(ChangeType.UPDATED, held.fact_id, held.version)
        return Reconciled(held, FactAction.IGNORED)

    def _add(self, fact: Fact) -> None:
        taken = current_fact(self._tx, self._user_key, fact.fact_id) is not None
        if taken or not self._insert(fact):
            raise AlreadyExists(Reason.FACT_EXISTS, "fact", fact.fact_id)
        self._changes.fact(ChangeType.CREATED, fact.fact_id, fact.version)
        self._to_embed(fact)

    def _next(self, after: Fact) -> Fact:
        """Write the next version of a fact; `after` has the number of the current one."""
        self._tx.execute(
            "UPDATE facts SET is_current = 0, vector = NULL, vector_model = NULL "
            "WHERE user_key = :user_key AND fact_id = :fact_id AND is_current = 1",
            {"user_key": self._user_key, "fact_id": after.fact_id},
        )
        after = replace(after, version=after.version + 1, recorded_at=self._now)
        self._insert(after)
        self._changes.fact(ChangeType.UPDATED, after.fact_id, after.version)
        note_facts(self._tx, self._user_key, self._revision, [after.fact_id], self._microseconds)
        forget_pending(self._tx, self._user_key, MemoryKind.FACT, after.fact_id)
        self._to_embed(after)
        return after

    def _to_embed(self, fact: Fact) -> None:
        """Queue a fact that holds; one that has ended is not recalled."""
        if fact.holds_at(self._now):
            queue_facts(
                self._tx, self._user_key, self._revision, [fact.fact_id], self._microseconds
            )

    def _insert(self, fact: Fact) -> bool:
        """Insert a version as the current one; False if there is one of that number."""
        rows: list[Row] = self._tx.execute(
            f"INSERT INTO facts (user_key, is_current, user_revision, digest, {FACT_COLUMNS}) "
            "VALUES (:user_key, 1, :revision, :digest, :fact_id, :version, :text, :metadata, "
            ":confidence, :valid_from, :valid_to, :recorded_at, :sources, :superseded_by, :kind) "
            "ON CONFLICT (user_key, fact_id, version) DO NOTHING RETURNING 1",
            {
                "user_key": self._user_key,
                "revision": self._revision,
                "digest": digest(fact.text),
                **fact_params(fact),
            },
        )
        return bool(rows)
