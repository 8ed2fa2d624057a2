"""Background work on memory: leased from the outbox, done, and only then marked done."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from recollect_server.activity import Activity
from recollect_server.errors import NotFound, RecollectError, ResourceExhausted, Unavailable
from recollect_server.memory.due import JobKind
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.jobs")

POLL_SECONDS = 0.5
"""How often the outbox is asked. No caller waits for a job, so nobody has to tell of one."""

RENEW_SECONDS = 5.0
CONCURRENCY = 4
"""Jobs that run at once in a process; they mostly wait for a model."""

LONGEST_PAUSE_SECONDS = 0.1
"""How long a job stands back for calls. One that waits puts nothing off: what is queued for its
session meanwhile is done with it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A leased job about a session, or about a user.

    Attributes:
        lease: tells this lease from earlier ones of the job.
        attempts: how often its work failed before.
        session_id: "" if it is about the user.
    """

    job_id: str
    kind: JobKind
    lease: int
    attempts: int
    scope: Scope
    session_id: str


class BadModelAnswer(Exception):
    """A model answered, but not with what was asked for; the message says what is wrong."""


class JobQueue(Protocol):
    """The outbox: leased, retried with backoff and jitter, dead letters kept."""

    async def lease_job(self, kinds: Collection[JobKind]) -> Job | None:
        """Lease the next due job of these kinds, earlier kinds first, or None."""

    async def renew_job(self, job: Job) -> bool:
        """Prolong a lease; False if it is lost."""

    async def finish_job(self, job: Job) -> None:
        """Remove a job whose result is stored, unless it was queued again while it ran.

        A lost lease changes nothing.
        """

    async def fail_job(self, job: Job, error: str, *, waits: bool) -> None:
        """Give a job back with backoff; after the last attempt it is a dead letter.

        Args:
            waits: what it needs is down, so it was no attempt.
        """


Handler = Callable[[Job], Awaitable[None]]


class JobRunner:
    """Runs jobs until it is cancelled.

    Args:
        handlers: what to do for each kind; a handler may run twice for one job.
        activity: the calls of this process, for which jobs stand back; None if they must not.
    """

    def __init__(
        self,
        queue: JobQueue,
        handlers: Mapping[JobKind, Handler],
        activity: Activity | None = None,
    ) -> None:
        self._queue = queue
        self._handlers = handlers
        self._activity = activity
        self._free = asyncio.Semaphore(CONCURRENCY)

    async def run(self) -> None:
        """Work until cancelled; an outage of the store is waited out."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    while await self._start_one(group):
                        pass
                except Unavailable as error:
                    log.warning("store unavailable, jobs wait", reason=error.reason)
                await asyncio.sleep(POLL_SECONDS)

    async def _start_one(self, group: asyncio.TaskGroup) -> bool:
        """Start the next due job, waiting for a free place; False if none is due."""
        await self._free.acquire()
        job = None
        try:
            if self._activity is not None:
                await self._activity.calm(LONGEST_PAUSE_SECONDS)
            job = await self._queue.lease_job(tuple(self._handlers))
        finally:
            if job is None:
                self._free.release()
        if job is not None:
            group.create_task(self._run(job)).add_done_callback(lambda _: self._free.release())
        return job is not None

    async def _run(self, job: Job) -> None:
        try:
            await self._run_once(job)
        except Unavailable as error:
            # The lease ends, and the job is given out again.
            log.warning("store unavailable, outcome lost", kind=job.kind, reason=error.reason)

    async def _run_once(self, job: Job) -> None:
        renewing = asyncio.create_task(self._renew(job))
        try:
            await self._handlers[job.kind](job)
        except NotFound:
            # The session is gone, and with it what was to be done.
            await self._queue.finish_job(job)
        except (Unavailable, ResourceExhausted) as error:
            log.warning("job waits", kind=job.kind, job_id=job.job_id, reason=error.reason)
            await self._queue.fail_job(job, error.message, waits=True)
        except (RecollectError, BadModelAnswer) as error:
            log.warning("job failed", kind=job.kind, job_id=job.job_id, error=str(error))
            await self._queue.fail_job(job, str(error), waits=False)
        except Exception:
            log.exception("job failed", kind=job.kind, job_id=job.job_id)
            message = "the work failed unexpectedly; see the server's log"
            await self._queue.fail_job(job, message, waits=False)
        else:
            await self._queue.finish_job(job)
        finally:
            renewing.cancel()

    async def _renew(self, job: Job) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if not await self._queue.renew_job(job):
                    log.warning("lease lost", kind=job.kind, job_id=job.job_id)
                    return
            except Unavailable:
                continue
