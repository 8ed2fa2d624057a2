"""Background work stands back while calls keep the event loop busy, and not for ever."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from struct import pack

import pytest

from recollect_server.activity import BUSY_SECONDS, SAMPLE_SECONDS, Activity

BUSY_PROCESS = """
import asyncio, sys
from pathlib import Path
from tests.test_activity import burning
from recollect_server.activity import Activity

async def main():
    activity = Activity(Path(sys.argv[1]))
    watching = asyncio.create_task(activity.run())
    await burning(activity)
    watching.cancel()

asyncio.run(main())
"""


async def burning(activity: Activity) -> None:
    """Keep the event loop busy until it is seen."""
    while not activity.busy():
        sum(range(10_000))
        await asyncio.sleep(0)


@asynccontextmanager
async def watched() -> AsyncIterator[Activity]:
    activity = Activity()
    watching = asyncio.create_task(activity.run())
    yield activity
    watching.cancel()
    await asyncio.wait([watching])


class Set(Activity):
    """A process that is busy as long as it is told to be."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_many = True

    def busy(self) -> bool:
        return self.calls_many


async def test_work_of_the_event_loop_makes_a_process_busy_until_it_ends():
    async with asyncio.timeout(60), watched() as activity:
        assert not activity.busy()
        await burning(activity)
        assert await activity.calm(60)


async def test_what_only_waits_makes_nobody_busy():
    async def waiting() -> None:
        for _ in range(5):
            await asyncio.sleep(SAMPLE_SECONDS)

    async with watched() as activity:
        end = asyncio.gather(*(waiting() for _ in range(100)))
        while not end.done():
            await asyncio.sleep(SAMPLE_SECONDS / 2)
            assert not activity.busy()
        await end


def test_a_busy_process_is_known_to_those_it_shares_a_file_with(tmp_path):
    shared = tmp_path / "activity"
    here, apart = Activity(shared), Activity()
    seen = False
    # It is busy for a moment only, which a busy machine may let pass unseen.
    while not seen:
        assert not apart.busy()
        subprocess.run([sys.executable, "-c", BUSY_PROCESS, str(shared)], check=True)
        seen = here.busy()
    time.sleep(BUSY_SECONDS)
    assert not here.busy()


def test_what_was_told_before_the_machine_started_anew_does_not_count(tmp_path):
    shared = tmp_path / "activity"
    shared.write_bytes(pack("d", time.monotonic() + 1e6))
    assert not Activity(shared).busy()


async def test_in_a_calm_nothing_waits():
    async with asyncio.timeout(10):
        assert await Activity().calm(1e6)


async def test_the_wait_ends_with_the_calls():
    activity = Set()
    task = asyncio.create_task(activity.calm(1e6))
    _, pending = await asyncio.wait([task], timeout=0.3)
    assert pending
    activity.calls_many = False
    async with asyncio.timeout(10):
        assert await task


async def test_under_lasting_load_the_wait_ends_all_the_same_and_says_so():
    async with asyncio.timeout(10):
        assert not await Set().calm(0.05)


@pytest.mark.parametrize("somebody_waits", [True, False])
async def test_what_somebody_waits_for_does_not_wait(somebody_waits):
    async def hurried() -> bool:
        return somebody_waits

    task = asyncio.create_task(Set().calm(1e6, hurried))
    done, _ = await asyncio.wait([task], timeout=10 if somebody_waits else 0.3)
    assert bool(done) is somebody_waits
    assert all(task.result() for task in done)
    task.cancel()
    await asyncio.wait([task])
