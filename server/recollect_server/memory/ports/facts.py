"""The store of facts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from recollect_server.memory.fact_plan import Plan
from recollect_server.memory.model import Fact, FactKind, NewFact, Reconciled, Remembered
from recollect_server.scope import RequestKey, Scope


class FactStore(Protocol):
    """Facts about a user and their history, durable when a call returns."""

    async def remember(
        self,
        scope: Scope,
        facts: Sequence[NewFact],
        request: RequestKey | None,
        plan: Plan | None = None,
    ) -> Remembered:
        """Store all facts or none, with the job that embeds them.

        Args:
            plan: what to do with them, in their order; None stores them as they are given, but for
                those that add nothing to one that is held.

        Raises:
            AlreadyExists: FACT_EXISTS, a chosen id is taken.
            FailedPrecondition: REQUEST_ID_REUSED.
            FactsChanged: the plan is no longer current.
        """

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
        """Do with facts found in a session's messages what is planned and move its watermark, in
        one step.

        Args:
            through: the messages up to this sequence have been read.
            session_time: as in `SessionStore.save_summary`.
            replaces_through: the watermark from which they were read; if the session's is no
                longer there, nothing changes and the result is None.

        Raises:
            NotFound: SESSION_NOT_FOUND.
            FactsChanged: the plan is no longer current.
        """

    async def same_facts(self, scope: Scope, text: str) -> tuple[Fact, ...]:
        """Return the current versions of facts with these words; see `statements.normal_form`."""

    async def get_fact(self, scope: Scope, fact_id: str) -> Fact:
        """Return the current version. Raises `NotFound` with FACT_NOT_FOUND."""

    async def get_facts(self, scope: Scope, fact_ids: Sequence[str]) -> tuple[Fact, ...]:
        """Return the current versions of those that exist, in the ids' order."""

    async def list_facts(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        valid_only: bool,
        kinds: frozenset[FactKind] = frozenset(),
    ) -> tuple[Fact, ...]:
        """Return current versions, newest recorded first, after (recorded_at, fact_id).

        Args:
            kinds: only facts of these kinds; none means all.
        """

    async def update_fact(
        self,
        scope: Scope,
        fact_id: str,
        changes: Mapping[str, object],
        expected_version: int | None = None,
        request: RequestKey | None = None,
    ) -> Fact:
        """Write the next version with the named attributes of `Fact` changed.

        Raises:
            NotFound: FACT_NOT_FOUND.
            RevisionMismatch: the fact is not at `expected_version`.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def forget_fact(
        self, scope: Scope, fact_id: str, request: RequestKey | None = None
    ) -> None:
        """Delete the fact with its whole history.

        Raises:
            NotFound: FACT_NOT_FOUND.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def fact_history(self, scope: Scope, fact_id: str) -> tuple[Fact, ...]:
        """Return every version, oldest first. Raises `NotFound` with FACT_NOT_FOUND."""
