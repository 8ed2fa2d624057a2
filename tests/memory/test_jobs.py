"""The runner of jobs, over the real outbox."""

import asyncio
from pathlib import Path

import pytest
from tests.stores.sql.support import ADA, Stores

from recollect_server.activity import Activity
from recollect_server.memory import jobs
from recollect_server.memory.due import JobKind
from recollect_server.memory.jobs import Job, JobRunner
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.sqlite import SqliteDatabase


class Busy(Activity):
    """A process that never comes to rest."""

    def busy(self) -> bool:
        return True


@pytest.fixture
async def stores(tmp_path: Path):
    """A store with one job that is due."""
    file = tmp_path / "recollect.db"
    migrate(file)
    database = SqliteDatabase(file)
    made = Stores(database)
    await made.session()
    await made.append(*(f"message {number}" for number in range(10)))
    made.clock.move(seconds=60)
    yield made
    await database.close()


async def _run(stores: Stores, activity: Activity | None, seconds: float) -> list[Job]:
    """Run jobs until one was done, or for as long as nothing happens; return those done."""
    done: list[Job] = []
    first = asyncio.Event()

    async def handle(job: Job) -> None:
        done.append(job)
        first.set()

    runner = JobRunner(stores.jobs, {JobKind.EXTRACT: handle}, activity)
    task = asyncio.create_task(runner.run())
    waiting = asyncio.create_task(first.wait())
    await asyncio.wait([waiting], timeout=seconds)
    for each in (task, waiting):
        each.cancel()
    await asyncio.wait([task, waiting])
    return done


async def test_jobs_stand_back_for_calls(stores, monkeypatch):
    monkeypatch.setattr(jobs, "LONGEST_PAUSE_SECONDS", 1e6)
    assert await _run(stores, Busy(), 0.3) == []
    assert [job.scope for job in await _run(stores, Activity(), 10)] == [ADA]


@pytest.mark.parametrize("activity", [Busy(), None], ids=["busy", "urgent"])
async def test_under_lasting_load_jobs_are_done_all_the_same(stores, activity):
    assert [job.scope for job in await _run(stores, activity, 10)] == [ADA]
