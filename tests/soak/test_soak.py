"""A steady load for long, with a fault each minute: nothing lost, nothing grown, no strange error.

RECOLLECT_SOAK_MINUTES is how long. docs/soak.md says what is done, checked, and what was measured.
"""

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.faults.connection import PATIENCE_SECONDS, connected
from tests.faults.ending import ending
from tests.faults.rounds import Campaign
from tests.faults.verify import after
from tests.faults.watched import acknowledged
from tests.faults.watcher import Watcher, watching
from tests.faults.workload import Actor, Failure, Workload, users_of
from tests.soak.faults import FAULTS, Fault
from tests.soak.load import CALLERS, Callers
from tests.soak.resources import Resources
from tests.soak.stack import Stack, stack_in

MINUTES = float(os.environ.get("RECOLLECT_SOAK_MINUTES", "1.5"))
PERIOD_SECONDS = min(60.0, 60 * MINUTES / len(FAULTS))
FAULT_SECONDS = PERIOD_SECONDS / 3
SETTLE_SECONDS = 10.0
"""After a fault has ended, calls may still meet what it left behind for so long."""

ERASE_SECONDS = 60.0
SAMPLE_SECONDS = 2.0
LEAST_CYCLES = 3
"""Growth is looked for after the first time that all faults took, if there are so many."""

MOST_GROWTH = 1.05
MOST_MORE_FILES = 5


@dataclass
class Soak:
    """A stack under load, in cycles: each fault once, and then the users of the cycle are erased.

    So the data are the same at the same time of each cycle.

    Attributes:
        cycles: seconds of `time.monotonic` when each began and its last fault's round was over.
        shown: how often each error was seen, by fault and method.
        late: seconds after the end of a fault at which calls failed.
    """

    stack: Stack
    say: Callable[[str], None]
    campaigns: list[Campaign] = field(default_factory=list)
    cycles: list[tuple[float, float]] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    shown: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)

    @property
    def loads(self) -> list[Workload]:
        """All that was done, in rounds."""
        return [load for campaign in self.campaigns for load in campaign.loads]

    async def cycle(self) -> list[str]:
        """Let each fault happen once, then erase whom it happened to; return what is wrong."""
        address, name = self.stack.address, f"soak{len(self.cycles) + 1}"
        watchers = [
            Watcher(address, user, by_client=bool(number % 2))
            for number, user in enumerate(users_of(name))
        ]
        campaign = Campaign(name, self.stack.running, watchers=watchers)
        self.campaigns.append(campaign)
        wrong: list[str] = []
        began = time.monotonic()
        async with watching(watchers):
            for watcher in watchers:
                await watcher.begin()
            for fault in FAULTS:
                wrong += await self._round(campaign, fault)
        self.cycles.append((began, time.monotonic()))
        wrong += await ending(campaign)
        return wrong + await self._erase(users_of(name))

    async def _round(self, campaign: Campaign, fault: Fault) -> list[str]:
        """Load the stack for one period with a fault in it; return what is wrong."""
        number = len(self.loads) + 1
        load = Workload(self.stack.address, number, campaign.name)
        await load.begin()
        stop = asyncio.Event()
        async with Callers(load) as callers:
            running = asyncio.create_task(callers.run(stop))
            try:
                began, ended = await self._befall(fault, running)
            finally:
                stop.set()
                await asyncio.wait([running], timeout=2 * PATIENCE_SECONDS)
                running.cancel()
                await asyncio.wait([running])
            await running
            wrong = self._strange(load, fault, began, ended)
            async with connected(self.stack.address) as (client, channel):
                actor = Actor(load, client, channel, CALLERS, callers.callers[0].random)
                wrong += await after(load, actor, campaign.watchers)
            for caller in callers.callers:
                wrong += await caller.wrong_chat()
        campaign.loads.append(load)
        self._tell(number, fault, load)
        return wrong

    async def _erase(self, users: Sequence[str]) -> list[str]:
        """Erase users; return what is left of them."""
        wrong = []
        async with connected(self.stack.address) as (client, _):
            for user in users:
                receipt = await client.admin.erase_user(user, timeout=ERASE_SECONDS)
                wrong += [f"{user} is not erased: {s}" for s in receipt.stores if s.remaining]
                if not receipt.complete:
                    wrong.append(f"{user} is not erased: {receipt}")
        return wrong

    async def _befall(self, fault: Fault, running: asyncio.Task[None]) -> tuple[float, float]:
        """Let a fault begin and end; return when."""
        start = time.monotonic()
        await self._wait(start + FAULT_SECONDS / 2, running)
        began = time.monotonic()
        await asyncio.to_thread(fault.begin, self.stack)
        await self._wait(began + FAULT_SECONDS, running)
        await asyncio.to_thread(fault.end, self.stack)
        ended = time.monotonic()
        await self._wait(max(start + PERIOD_SECONDS, ended + FAULT_SECONDS / 2), running)
        return began, ended

    async def _wait(self, until: float, running: asyncio.Task[None]) -> None:
        """Wait, and look at the processes meanwhile."""
        while time.monotonic() < until:
            if running.done():
                running.result()
                pytest.fail("the load ended by itself")
            self.resources.look(self.stack.watched())
            await asyncio.sleep(min(SAMPLE_SECONDS, max(0.0, until - time.monotonic())))

    def _strange(self, load: Workload, fault: Fault, began: float, ended: float) -> list[str]:
        """Return the errors that the fault does not explain."""
        wrong = []
        for failure in load.failures:
            self.shown[fault.name, failure.what, failure.how] += 1
            if failure.at > ended:
                self.late.append(failure.at - ended)
            in_time = began <= failure.at <= ended + SETTLE_SECONDS
            if not (in_time and fault.explains(failure.what, failure.how)):
                wrong.append(f"{fault.name}, {_when(failure, began, ended)}: {failure}")
        return wrong

    def _tell(self, number: int, fault: Fault, load: Workload) -> None:
        told = ", ".join(f"{n} {how}" for how, n in sorted(load.history.counts().items()))
        last = {name: samples[-1] for name, samples in self.resources.samples.items()}
        sizes = ", ".join(f"{n} {s.rss:.0f} MiB {s.files} files" for n, s in last.items())
        failed = Counter(f"{f.what} {f.how}" for f in load.failures)
        seen = ", ".join(f"{n} x {how}" for how, n in failed.items()) or "none"
        self.say(f"round {number}, {fault.name}: {told}; errors: {seen}; {sizes}")

    def growth(self) -> list[str]:
        """Return which process has grown since each fault had happened once."""
        wrong = []
        for name in self.resources.samples:
            memory, files = self.resources.between(name, *self.cycles[1])
            memory_now, files_now = self.resources.between(name, *self.cycles[-1])
            told = (
                f"{name}: memory {memory:.1f} -> {memory_now:.1f} MiB "
                f"({memory_now / memory - 1:+.1%}), files {files:.0f} -> {files_now:.0f}"
            )
            self.say(told)
            if memory_now > MOST_GROWTH * memory or files_now > files + MOST_MORE_FILES:
                wrong.append(f"grown: {told}")
        return wrong

    def summary(self, seconds: float) -> None:
        """Say what was done and seen."""
        calls = [call for load in self.loads for call in load.history.calls]
        breaks = sum(watcher.breaks for campaign in self.campaigns for watcher in campaign.watchers)
        self.say(
            f"{seconds / 60:.1f} minutes, {len(self.loads)} faults, {len(calls)} calls, "
            f"{acknowledged(calls)} acknowledged writes, {breaks} resumed watches, last error "
            f"{max(self.late, default=0.0):.1f} s after the end of a fault"
        )
        for (fault, what, how), number in sorted(self.shown.items()):
            self.say(f"{fault}: {what} {how}: {number}")


def _when(failure: Failure, began: float, ended: float) -> str:
    if failure.at < began:
        return f"{began - failure.at:.1f} s before it"
    if failure.at > ended:
        return f"{failure.at - ended:.1f} s after its end"
    return "meanwhile"


async def test_a_steady_load_outlives_every_fault(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    with stack_in(tmp_path) as stack:
        soak = Soak(stack, say)
        wrong: list[str] = []
        began = time.monotonic()
        try:
            while time.monotonic() - began < 60 * MINUTES:
                wrong += await soak.cycle()
            soak.summary(time.monotonic() - began)
            if len(soak.cycles) >= LEAST_CYCLES:
                wrong += soak.growth()
            wrong += await asyncio.to_thread(stack.running.stop)
        finally:
            folder = Path(tempfile.mkdtemp(prefix="recollect-soak-"))
            (folder / "log").write_text(stack.running.log())
            for load in soak.loads:
                load.history.dump(folder / f"calls-{load.seed}.jsonl")
        assert not wrong, "\n".join([f"calls and logs: {folder}", *wrong])
