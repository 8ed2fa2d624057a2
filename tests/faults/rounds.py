"""Rounds of load with kills in their midst, and what must be true when all is over."""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from tests.faults.connection import PATIENCE_SECONDS, connected
from tests.faults.deployment import Running
from tests.faults.verify import after
from tests.faults.victims import RECOVERY_SECONDS, VICTIMS, valkeys
from tests.faults.watched import acknowledged
from tests.faults.watcher import Watcher, watching
from tests.faults.workload import CLIENTS, Actor, Workload, users_of
from tests.harness import eventually

KILLS = (1, 1, 2)
MOST_APPENDS = 40
"""Between two kills."""


@dataclass(slots=True)
class Campaign:
    """A running deployment and what was done to it.

    Attributes:
        loads: of all rounds that are over.
        kills: by victim.
    """

    name: str
    running: Running
    loads: list[Workload] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    async def rounds(
        self, name: str, seeds: Sequence[int], victims: Sequence[str], say: Callable[[str], None]
    ) -> None:
        """Run a round for each seed, on the same users, who are watched all the while.

        Args:
            victims: each kill chooses one of them.

        Raises:
            pytest.fail.Exception: a promise was broken; the message says which.
        """
        address = self.running.server.address
        users = enumerate(users_of(name))
        watchers = [Watcher(address, user, by_client=bool(n % 2)) for n, user in users]
        self.watchers += watchers
        async with watching(watchers):
            for watcher in watchers:
                await watcher.begin()
            for number, seed in enumerate(seeds, 1):
                began = time.monotonic()
                round_ = _Round(self, Workload(address, seed, name), Random(seed), victims)
                await round_.run(watchers)
                counts = round_.load.history.counts()
                told = ", ".join(f"{n} {how}" for how, n in counts.items())
                killed = " and ".join(round_.killed)
                say(
                    f"{self.name}, round {number} of {len(seeds)}, seed {seed}: killed {killed}; "
                    f"{told} in {time.monotonic() - began:.1f} s"
                )

    def summary(self) -> str:
        """Return what was done, for people."""
        calls = [call for load in self.loads for call in load.history.calls]
        ends = Counter(type(call.outcome).__name__.lower() for call in calls)
        steps = sum(type(call.request).__name__ == "Step" for call in calls)
        breaks = sum(watcher.breaks for watcher in self.watchers)
        killed = ", ".join(f"{victim} {n}" for victim, n in sorted(self.kills.items()))
        return (
            f"{self.name}: {len(self.loads)} rounds; kills: {killed}; {len(calls) - steps} calls, "
            f"{acknowledged(calls)} acknowledged writes, {ends['unknown']} calls without an "
            f"answer, {steps} summaries and clearings, {breaks} resumed watches"
        )


@dataclass(slots=True)
class _Round:
    """One load with its kills."""

    campaign: Campaign
    load: Workload
    random: Random
    victims: Sequence[str]
    killed: list[str] = field(default_factory=list)

    async def run(self, watchers: list[Watcher]) -> None:
        """Run it.

        Raises:
            pytest.fail.Exception: a promise was broken; the message says which.
        """
        running = self.campaign.running
        try:
            await self.load.begin()
            await self._kill_and_go_on()
            async with connected(running.server.address) as (client, channel):
                actor = Actor(self.load, client, channel, CLIENTS, self.random)
                broken = await after(self.load, actor, watchers)
            await asyncio.to_thread(
                eventually, lambda: len(valkeys(running.server)) == 1, RECOVERY_SECONDS
            )
        except BaseException:
            self._keep()
            raise
        if broken:
            pytest.fail("\n".join([self._keep(), *broken]))
        self.campaign.loads.append(self.load)

    def _keep(self) -> str:
        """Write down what led to a failure, and return where."""
        folder = Path(tempfile.mkdtemp(prefix="recollect-broken-"))
        self.load.history.dump(folder / "calls.jsonl")
        (folder / "log").write_text(self.campaign.running.log())
        what = f"seed {self.load.seed}, killed {self.killed}; calls and logs: {folder}"
        print(what)
        return what

    async def _kill_and_go_on(self) -> None:
        """Run the load; kill in its midst, restore, and see the load go on."""
        stop = asyncio.Event()
        load = asyncio.create_task(self.load.run(stop))
        try:
            for _ in range(self.random.choice(KILLS)):
                await self._appended(self.random.randint(1, MOST_APPENDS), load)
                # Not only just after an answer, but anywhere between two.
                await asyncio.sleep(self.random.uniform(0, 0.02))
                await self._kill()
            await self._appended(self.random.randint(CLIENTS, MOST_APPENDS), load)
        finally:
            stop.set()
            await asyncio.wait([load], timeout=2 * PATIENCE_SECONDS)
            load.cancel()
            await asyncio.wait([load])
        await load

    async def _kill(self) -> None:
        name = self.random.choice(self.victims)
        victim, running = VICTIMS[name], self.campaign.running
        self.killed.append(name)
        self.campaign.kills[name] += 1
        await asyncio.to_thread(victim.kill, running, self.random)
        await asyncio.to_thread(victim.restore, running)

    async def _appended(self, more: int, load: asyncio.Task[None]) -> None:
        """Return once so many more appends were acknowledged.

        Raises:
            TimeoutError: they are not within PATIENCE_SECONDS.
            BaseException: what the load failed with.
        """
        goal = self.load.history.acknowledged + more
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.load.history.acknowledged < goal:
                if load.done():
                    load.result()
                    pytest.fail("the load ended by itself")
                await asyncio.sleep(0.002)
