"""Telling those who keep what rests on facts or sessions that these were changed or are gone.

A notice is written with the change itself and removed once it was passed on, so an outage of the
one who listens delays it and loses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from recollect_server.memory.jobs import Job
from recollect_server.scope import Scope

BATCH = 500


class Listener(Protocol):
    """Whoever keeps what rests on facts and sessions."""

    async def forget_facts(self, scope: Scope, fact_ids: Sequence[str]) -> None:
        """Drop what rests on facts that were changed or forgotten; may come twice.

        Raises:
            Unavailable: it cannot be reached; the same is asked again later.
        """

    async def forget_session(self, scope: Scope, session_id: str) -> None:
        """Drop what was kept for a deleted session; may come twice, and raises as above."""


@dataclass(frozen=True, slots=True)
class Gone:
    """What the oldest notices name.

    Attributes:
        through: the user's revision up to which these are all.
    """

    fact_ids: tuple[str, ...] = ()
    session_ids: tuple[str, ...] = ()
    through: int = 0


class Notices(Protocol):
    """What a `Listener` has yet to learn, written with the change itself."""

    async def notices(self, scope: Scope, limit: int) -> Gone:
        """Return what about `limit` of the oldest notices name; nothing if there are none."""

    async def remove_notices(self, scope: Scope, through: int) -> None:
        """Remove the notices up to a revision of the user."""


class Forgetting:
    """Passes notices on."""

    def __init__(self, notices: Notices, listener: Listener) -> None:
        self._notices = notices
        self._listener = listener

    async def run(self, job: Job) -> None:
        """Pass on all notices of the job's user."""
        while True:
            gone = await self._notices.notices(job.scope, BATCH)
            if gone == Gone():
                return
            await self._listener.forget_facts(job.scope, gone.fact_ids)
            for session_id in gone.session_ids:
                await self._listener.forget_session(job.scope, session_id)
            await self._notices.remove_notices(job.scope, gone.through)
