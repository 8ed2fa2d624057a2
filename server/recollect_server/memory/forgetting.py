"""Telling those who keep what rests on facts that facts were changed or forgotten.

A notice is written with the change itself and removed once it was passed on, so an outage of the
one who listens delays it and loses nothing.
"""

from collections.abc import Sequence
from typing import Protocol

from recollect_server.memory.jobs import Job
from recollect_server.scope import Scope

BATCH = 500


class FactListener(Protocol):
    """Whoever keeps what rests on facts."""

    async def forget_facts(self, scope: Scope, fact_ids: Sequence[str]) -> None:
        """Drop what rests on facts that were changed or forgotten; may come twice.

        Raises:
            Unavailable: it cannot be reached; the same is asked again later.
        """


class FactNotices(Protocol):
    """Facts whose change or end a `FactListener` has yet to learn, written with that change."""

    async def fact_notices(self, scope: Scope, limit: int) -> tuple[tuple[str, ...], int]:
        """Return the facts of the oldest notices, and the revision up to which these are all."""

    async def remove_fact_notices(self, scope: Scope, through: int) -> None:
        """Remove the notices up to a revision of the user."""


class Forgetting:
    """Passes notices on."""

    def __init__(self, notices: FactNotices, listener: FactListener) -> None:
        self._notices = notices
        self._listener = listener

    async def run(self, job: Job) -> None:
        """Pass on all notices of the job's user."""
        while True:
            fact_ids, through = await self._notices.fact_notices(job.scope, BATCH)
            if not fact_ids:
                return
            await self._listener.forget_facts(job.scope, fact_ids)
            await self._notices.remove_fact_notices(job.scope, through)
