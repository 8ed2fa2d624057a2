"""Telling those who keep what rests on facts that facts were changed or forgotten.

A notice is written with the change itself and removed once it was passed on, so an outage of the
one who listens delays it and loses nothing.
"""

from recollect_server.memory.jobs import Job
from recollect_server.memory.ports import FactListener, FactNotices

BATCH = 500


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
