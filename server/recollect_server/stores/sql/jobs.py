"""The outbox of background work: rows written with what causes them.

A job is one of a kind for a user, or for one of the user's sessions. It is leased, tried again with
growing pauses when the work fails, and a dead letter after `MAX_ATTEMPTS`. While what it needs is
down it waits, as long as that takes.
"""

import random
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from typing import Any

from recollect_server.admin.model import JobDepth, JobRecord, JobState
from recollect_server.errors import NotFound, Reason
from recollect_server.ids import uuid7
from recollect_server.memory.due import JobKind
from recollect_server.memory.jobs import Job
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.requests import idempotent

LEASE_SECONDS = 20
HURRIED_LEASE_SECONDS = 2 * LEASE_SECONDS
MAX_ATTEMPTS = 10
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 300.0
AGE_SHARE = 0.25
"""While what it needs is down, a job pauses for this share of its age: an outage of a minute costs
some seconds more, one of a day some tries a minute."""
LONGEST_WAIT_SECONDS = 60.0
JITTER = 0.25
_SECOND = 1_000_000


QUEUED_AGAIN = (
    "ON CONFLICT (kind, user_key, session_key) DO UPDATE SET "
    "again = CASE jobs.state WHEN 'running' THEN 1 ELSE 0 END, "
    "state = CASE jobs.state WHEN 'dead' THEN 'due' ELSE jobs.state END, "
    "attempts = CASE jobs.state WHEN 'dead' THEN 0 ELSE jobs.attempts END, "
    "run_time = CASE jobs.state WHEN 'dead' THEN excluded.run_time ELSE jobs.run_time END, "
    "create_time = CASE jobs.state WHEN 'dead' THEN excluded.create_time "
    "ELSE jobs.create_time END WHERE jobs.state <> 'due'"
)
"""What queueing a job does that is there: see `queue_job`."""


def queue_job(
    tx: Transaction, kind: JobKind, user_key: int, session_key: int, now: int, delay: int = 0
) -> None:
    """Make a job due, if it is not there yet.

    A running one may have looked before this transaction, so it will be run once more. A dead one
    gets a new life: it may work now.

    Args:
        now: microseconds since 1970.
        delay: microseconds from now until it is due.
    """
    tx.execute_many(
        "INSERT INTO jobs (job_id, kind, user_key, session_key, state, again, attempts, run_time, "
        "lease, last_error, create_time) VALUES (:job_id, :kind, :user_key, :session_key, 'due', "
        f"0, 0, :due, 0, '', :now) {QUEUED_AGAIN}",
        [
            {
                "job_id": uuid7(),
                "kind": str(kind),
                "user_key": user_key,
                "session_key": session_key,
                "now": now,
                "due": now + delay,
            }
        ],
    )


def lease(
    tx: Transaction, kind: JobKind, now: int, seconds: float = LEASE_SECONDS
) -> tuple[str, int, int, int, int] | None:
    """Lease the job of a kind that has been due longest.

    Args:
        seconds: until the job is given to another one.

    Returns:
        (job_id, lease, attempts, user_key, session_key), or None.
    """
    rows = tx.execute(
        "UPDATE jobs SET state = 'running', again = 0, lease = lease + 1, run_time = :until "
        "WHERE job_id = (SELECT job_id FROM jobs WHERE kind = :kind AND state <> 'dead' "
        f"AND run_time <= :now ORDER BY run_time LIMIT 1{tx.skip_locked}) "
        "RETURNING job_id, lease, attempts, user_key, session_key",
        {"kind": str(kind), "now": now, "until": now + round(seconds * _SECOND)},
    )
    return tuple(rows[0]) if rows else None


def hurry(tx: Transaction, kind: JobKind, user_key: int, now: int) -> None:
    """Have a user's job leased before all others; one that backs off goes on to.

    A job that runs may be at it slowly, behind all else, so it is given out again, unless it is
    leased for longer than usual: then somebody is at it who hurries.
    """
    tx.execute(
        "UPDATE jobs SET run_time = 0 WHERE kind = :kind AND user_key = :user_key "
        "AND session_key = 0 AND (state = 'due' AND run_time BETWEEN 1 AND :now "
        "OR state = 'running' AND run_time BETWEEN 1 AND :usual)",
        {
            "kind": str(kind),
            "user_key": user_key,
            "now": now,
            "usual": now + LEASE_SECONDS * _SECOND,
        },
    )


def holds_lease(tx: Transaction, job_id: str, lease: int) -> bool:
    """Whether a lease is still the job's, and stays so until the transaction ends."""
    return bool(
        tx.execute(
            "SELECT 1 FROM jobs WHERE job_id = :job_id AND lease = :lease "
            f"AND state = 'running'{tx.for_update}",
            {"job_id": job_id, "lease": lease},
        )
    )


def finish(tx: Transaction, job_id: str, lease: int, now: int) -> None:
    """Remove a job that is done, or make it due if it was queued again while it ran."""
    if not holds_lease(tx, job_id, lease):
        return
    params = {"job_id": job_id, "now": now}
    tx.execute("DELETE FROM jobs WHERE job_id = :job_id AND again = 0", params)
    tx.execute(
        "UPDATE jobs SET state = 'due', again = 0, attempts = 0, run_time = :now "
        "WHERE job_id = :job_id",
        params,
    )


def fail(tx: Transaction, job_id: str, lease: int, error: str, now: int, *, waits: bool) -> None:
    """Give a job back with backoff and jitter.

    Args:
        waits: what it needs is down, so this was no attempt of its own.
    """
    if not holds_lease(tx, job_id, lease):
        return
    attempts, again, create_time = tx.execute(
        "SELECT attempts, again, create_time FROM jobs WHERE job_id = :job_id", {"job_id": job_id}
    )[0]
    if again:
        # New work came meanwhile, as it would revive a dead job.
        attempts = 0
    if waits:
        pause = min((now - create_time) / _SECOND * AGE_SHARE, LONGEST_WAIT_SECONDS)
    else:
        attempts += 1
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** (attempts - 1), LONGEST_RETRY_SECONDS)
    # Not a secret: spreads retries so that they do not come all at once.
    pause = max(pause, FIRST_RETRY_SECONDS) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
    tx.execute(
        "UPDATE jobs SET state = :state, attempts = :attempts, run_time = :run_time, "
        "last_error = :error WHERE job_id = :job_id",
        {
            "state": "dead" if attempts >= MAX_ATTEMPTS else "due",
            "attempts": attempts,
            "run_time": now + int(pause * _SECOND),
            "error": error,
            "job_id": job_id,
        },
    )


class SqlJobQueue:
    """Implements `memory.jobs.JobQueue` and `admin.ports.JobStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def lease_job(self, kinds: Collection[JobKind]) -> Job | None:
        """See `JobQueue`."""
        now = to_microseconds(self._clock())
        for kind in kinds:
            lease_it = partial(_lease, kind=kind, now=now)
            waiting = await self._database.read_rows(
                "SELECT 1 FROM jobs WHERE kind = :kind AND state <> 'dead' "
                "AND run_time <= :now LIMIT 1",
                {"kind": str(kind), "now": now},
            )
            if waiting:
                job = await self._database.write(lease_it)
                if job is not None:
                    return job
        return None

    async def renew_job(self, job: Job) -> bool:
        """See `JobQueue`."""
        until = to_microseconds(self._clock()) + LEASE_SECONDS * _SECOND

        def work(tx: Transaction) -> bool:
            if not holds_lease(tx, job.job_id, job.lease):
                return False
            tx.execute(
                "UPDATE jobs SET run_time = :until WHERE job_id = :job_id",
                {"until": until, "job_id": job.job_id},
            )
            return True

        return await self._database.write(work)

    async def finish_job(self, job: Job) -> None:
        """See `JobQueue`."""
        now = to_microseconds(self._clock())
        await self._database.write(lambda tx: finish(tx, job.job_id, job.lease, now))

    async def fail_job(self, job: Job, error: str, *, waits: bool) -> None:
        """See `JobQueue`."""
        now = to_microseconds(self._clock())
        await self._database.write(
            lambda tx: fail(tx, job.job_id, job.lease, error, now, waits=waits)
        )

    async def depths(self) -> tuple[JobDepth, ...]:
        """Return how many jobs of each kind and state there are, of all tenants."""
        now = to_microseconds(self._clock())
        rows = await self._database.read(
            lambda tx: tx.execute(
                "SELECT kind, state, COUNT(*), MIN(NULLIF(run_time, 0)) FROM jobs "
                "GROUP BY kind, state"
            )
        )
        return tuple(
            JobDepth(
                kind,
                JobState[state.upper()],
                count,
                max(0, now - (run_time or now)) / _SECOND if state == "due" else 0.0,
            )
            for kind, state, count, run_time in rows
        )

    async def list_jobs(
        self,
        tenant: str,
        *,
        state: JobState | None,
        user_id: str = "",
        limit: int,
        after: tuple[int, str] | None,
    ) -> tuple[JobRecord, ...]:
        """See `JobStore`."""
        clauses, params = "", dict[str, Any](tenant=tenant, limit=limit)
        if user_id:
            clauses += "AND u.user_id = :user_id "
            params["user_id"] = user_id
        if state is not None:
            clauses += "AND j.state = :state "
            params["state"] = state.name.lower()
        if after is not None:
            clauses += f"AND ({_RANK}, j.job_id) > (:rank, :name) "
            params |= {"rank": after[0], "name": after[1]}
        rows = await self._database.read(
            lambda tx: tx.execute(
                f"{_SELECT}WHERE {_VISIBLE} {clauses}ORDER BY {_RANK}, j.job_id LIMIT :limit",
                params,
            )
        )
        return tuple(_to_record(row) for row in rows)

    async def retry_job(
        self, tenant: str, job_id: str, request: RequestKey | None = None
    ) -> JobRecord:
        """See `JobStore`."""
        now = to_microseconds(self._clock())
        params = {"tenant": tenant, "job_id": job_id, "now": now}
        query = f"{_SELECT}WHERE {_VISIBLE} AND j.job_id = :job_id"

        def retry(tx: Transaction) -> JobRecord:
            found = tx.execute(query, params)
            if not found:
                raise NotFound(Reason.JOB_NOT_FOUND, "job", job_id)
            tx.execute(
                "UPDATE jobs SET state = 'due', attempts = 0, run_time = :now, lease = lease + 1 "
                "WHERE job_id = :job_id AND state <> 'running'",
                params,
            )
            return _to_record(tx.execute(query, params)[0])

        def again(tx: Transaction, kept: Row) -> JobRecord:
            found = tx.execute(query, params)
            return _to_record(found[0] if found else kept)

        def work(tx: Transaction) -> JobRecord:
            return idempotent(
                tx,
                Scope(tenant, ""),
                request,
                now,
                run=lambda: retry(tx),
                to_plain=_to_plain,
                from_plain=lambda kept: again(tx, kept),
            )

        return await self._database.write(work)


_RANK = "CASE j.state WHEN 'dead' THEN 0 WHEN 'running' THEN 1 ELSE 2 END"
"""Dead letters come first in a list."""

_SELECT = (
    "SELECT j.job_id, j.kind, COALESCE(u.user_id, ''), COALESCE(s.session_id, ''), j.state, "
    "j.attempts, j.run_time, j.last_error, j.create_time FROM jobs j "
    "LEFT JOIN users u ON u.user_key = j.user_key "
    "LEFT JOIN sessions s ON s.session_key = j.session_key "
)
_VISIBLE = "(u.tenant = :tenant OR j.user_key = 0)"
"""A tenant sees its users' jobs, and what is done for all: moving to another vector store."""


def _to_record(row: Row) -> JobRecord:
    return JobRecord(
        job_id=row[0],
        kind=row[1],
        user_id=row[2],
        session_id=row[3],
        state=JobState[row[4].upper()],
        attempts=row[5],
        run_time=from_microseconds(row[6]),
        last_error=row[7],
        create_time=from_microseconds(row[8]),
    )


def _to_plain(record: JobRecord) -> Row:
    """Return a row of the job, but not whose it is: where it is kept, no erasure would find it."""
    return [
        record.job_id,
        record.kind,
        "",
        "",
        record.state.name.lower(),
        record.attempts,
        to_microseconds(record.run_time),
        "",
        to_microseconds(record.create_time),
    ]


def _lease(tx: Transaction, kind: JobKind, now: int) -> Job | None:
    leased = lease(tx, kind, now)
    if leased is None:
        return None
    job_id, number, attempts, user_key, session_key = leased
    rows = tx.execute(
        "SELECT u.tenant, u.user_id, s.session_id FROM users u LEFT JOIN sessions s "
        "ON s.user_key = u.user_key AND s.session_key = :session_key "
        "WHERE u.user_key = :user_key",
        {"user_key": user_key, "session_key": session_key},
    )
    if not rows or (session_key and rows[0][2] is None):
        tx.execute("DELETE FROM jobs WHERE job_id = :job_id", {"job_id": job_id})
        return None
    tenant, user_id, session_id = rows[0]
    return Job(job_id, kind, number, attempts, Scope(tenant, user_id), session_id or "")
