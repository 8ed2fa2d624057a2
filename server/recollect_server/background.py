"""Work that no call waits for: vectors, summaries, episodes, and what is due as time passes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from recollect_server.activity import Activity
from recollect_server.admin.sealing import Sealing, append_to
from recollect_server.config import Settings
from recollect_server.memory.due import JobKind
from recollect_server.memory.embedding import EmbeddingWorker
from recollect_server.memory.forgetting import Forgetting, Listener
from recollect_server.memory.jobs import JobRunner
from recollect_server.memory.upkeep import UpkeepWorker
from recollect_server.parts import StartError, open_audit_key, utc_now
from recollect_server.session_work import SessionWork
from recollect_server.stores.sql.audit_chains import SqlAuditChains
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.fact_notices import SqlNotices
from recollect_server.stores.sql.jobs import SqlJobQueue
from recollect_server.stores.sql.upkeep import SqlUpkeep
from recollect_server.telemetry import Telemetry

log = structlog.get_logger("recollect.background")

RESTART_SECONDS = 1.0

Loops = dict[str, Callable[[], Awaitable[None]]]


def worker_loops(
    database: Database,
    work: SessionWork,
    embedding: EmbeddingWorker,
    work_added: asyncio.Event,
    activity: Activity,
    telemetry: Telemetry,
) -> Loops:
    """Return what a worker does, by name; each runs until it is cancelled.

    Args:
        work_added: wakes `embedding`.
    """
    runner = JobRunner(
        SqlJobQueue(database, utc_now),
        telemetry.watch_handlers(
            {
                JobKind.SUMMARIZE: work.compactor.run,
                JobKind.EXTRACT: work.extraction.run,
                JobKind.EPISODE: work.episode_maker.run,
            }
        ),
        activity,
    )
    upkeep = UpkeepWorker(SqlUpkeep(database, utc_now, work.policy), work_added)
    return {"embedding": embedding.run, "jobs": runner.run, "upkeep": upkeep.run}


def sealing_loop(database: Database, settings: Settings) -> Loops:
    """Return what seals audit events, and removes those that are too old.

    Raises:
        StartError: the key that is set is none, or heads cannot be written.
    """
    if settings.audit_key.get_secret_value():
        open_audit_key(settings)
    elif settings.uses_postgres:
        log.warning("audit_key is not set: each data directory signs with a key of its own")
    if settings.audit_heads is not None:
        try:
            append_to(settings.audit_heads, b"")
        except OSError as error:
            text = f"cannot write the audit heads to {settings.audit_heads}: {error.strerror}"
            raise StartError(text) from error
    sealing = Sealing(
        SqlAuditChains(database, utc_now),
        lambda: open_audit_key(settings),
        utc_now,
        keep=timedelta(days=settings.audit_days) if settings.audit_days else None,
        heads=settings.audit_heads,
    )
    return {"sealing": sealing.run}


def forgetting_loop(database: Database, listener: Listener, telemetry: Telemetry) -> Loops:
    """Return what tells a listener of facts and sessions; it runs where that one is reached."""
    forgetting = Forgetting(SqlNotices(database), listener)
    handlers = telemetry.watch_handlers({JobKind.FORGET: forgetting.run})
    runner = JobRunner(SqlJobQueue(database, utc_now), handlers)
    return {"forgetting": runner.run}


@asynccontextmanager
async def running(loops: Loops) -> AsyncIterator[None]:
    """Run the loops meanwhile; a defect in one is logged, and it is started again.

    One that returns has done what it was for.
    """

    async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:
                log.exception("background work failed", work=name)
                await asyncio.sleep(RESTART_SECONDS)
            else:
                return

    tasks = [
        asyncio.create_task(supervise(name, run), name=f"background-{name}")
        for name, run in loops.items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
