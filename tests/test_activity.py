"""Background work stands back while calls are many, and not for ever."""

import asyncio
import subprocess
import sys
import time
from struct import pack

import pytest

from recollect_server.activity import BUSY_CALLS, BUSY_SECONDS, Activity

MANY_CALLS = """
import sys
from pathlib import Path
from recollect_server.activity import BUSY_CALLS, Activity

activity = Activity(Path(sys.argv[1]))
for line in sys.stdin:
    for _ in range(BUSY_CALLS):
        activity.answered()
    print("answered", flush=True)
"""


class Set(Activity):
    """A process that is busy as long as it is told to be."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_many = True

    def busy(self) -> bool:
        return self.calls_many


def test_many_calls_in_a_moment_make_a_process_busy():
    activity = Activity()
    for _ in range(BUSY_CALLS - 1):
        activity.answered()
    assert not activity.busy()
    activity.answered()
    assert activity.busy()


def test_many_calls_of_another_process_count_for_as_long(tmp_path):
    shared = tmp_path / "activity"
    here, apart = Activity(shared), Activity()
    with subprocess.Popen(
        [sys.executable, "-c", MANY_CALLS, str(shared)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        seen = False
        # It is busy for a moment only, which a busy machine may let pass unseen.
        while not seen:
            assert not apart.busy()
            other.stdin.write("\n")
            other.stdin.flush()
            assert other.stdout.readline() == "answered\n"
            seen = here.busy()
        other.stdin.close()
        assert other.wait() == 0
    time.sleep(BUSY_SECONDS)
    assert not here.busy()


def test_what_was_told_before_the_machine_started_anew_does_not_count(tmp_path):
    shared = tmp_path / "activity"
    shared.write_bytes(pack("d", time.monotonic() + 1e6))
    assert not Activity(shared).busy()


async def test_in_a_calm_nothing_waits():
    async with asyncio.timeout(10):
        await Activity().calm(1e6)


async def test_the_wait_ends_with_the_calls():
    activity = Set()
    task = asyncio.create_task(activity.calm(1e6))
    _, pending = await asyncio.wait([task], timeout=0.3)
    assert pending
    activity.calls_many = False
    async with asyncio.timeout(10):
        await task


async def test_under_lasting_load_the_wait_ends_all_the_same():
    async with asyncio.timeout(10):
        await Set().calm(0.05)


@pytest.mark.parametrize("somebody_waits", [True, False])
async def test_what_somebody_waits_for_does_not_wait(somebody_waits):
    async def hurried() -> bool:
        return somebody_waits

    task = asyncio.create_task(Set().calm(1e6, hurried))
    done, _ = await asyncio.wait([task], timeout=10 if somebody_waits else 0.3)
    assert bool(done) is somebody_waits
    task.cancel()
    await asyncio.wait([task])
