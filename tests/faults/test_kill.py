"""What was acknowledged stays, once and in order, whichever process is killed at any moment.

RECOLLECT_FAULT_ROUNDS is how many rounds each test has. A round's line shows its seed;
RECOLLECT_FAULT_SEED is the first round's, so that a round can be run again: its choices are the
same, its timing is not.
"""

import asyncio
import os
import time
from collections.abc import Callable
from random import Random, SystemRandom

import pytest
from tests.faults.deployment import EMBEDDED, Deployment, Victim, processes_of, valkeys
from tests.faults.verify import after, wait_indexed
from tests.faults.workload import CLIENTS, PATIENCE_SECONDS, Actor, Workload, connected
from tests.harness import RunningServer

ROUNDS = int(os.environ.get("RECOLLECT_FAULT_ROUNDS", "3"))
SEED = int(os.environ.get("RECOLLECT_FAULT_SEED") or SystemRandom().randrange(10**6))
KILLS = (1, 1, 2)
DEPLOYMENTS = [EMBEDDED]
CASES = [(deployment, victim) for deployment in DEPLOYMENTS for victim in deployment.victims]


async def _until(check: Callable[[], bool], load: asyncio.Task[None]) -> None:
    """Return once something is true.

    Raises:
        TimeoutError: it is not within PATIENCE_SECONDS.
        BaseException: what the load failed with.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not check():
            if load.done():
                load.result()
                pytest.fail("the load ended by itself")
            await asyncio.sleep(0.002)


async def _kill_and_go_on(
    load: Workload, server: RunningServer, victim: Victim, random: Random
) -> None:
    """Run the load; kill the victim in its midst, restore it, and see the load go on."""
    stop = asyncio.Event()
    running = asyncio.create_task(load.run(stop))

    async def appended(more: int) -> None:
        goal = load.history.acknowledged + more
        await _until(lambda: load.history.acknowledged >= goal, running)

    try:
        for _ in range(random.choice(KILLS)):
            await appended(random.randint(1, 60))
            # Not only just after an answer, but anywhere between two.
            await asyncio.sleep(random.uniform(0, 0.02))
            await asyncio.to_thread(victim.kill, server)
            await asyncio.to_thread(victim.restore, server)
        await appended(random.randint(CLIENTS, 60))
    finally:
        stop.set()
        await asyncio.wait([running], timeout=2 * PATIENCE_SECONDS)
        running.cancel()
        await asyncio.wait([running])
    await running


async def _round(server: RunningServer, victim: Victim, seed: int) -> Workload:
    """Run one round and return its load.

    Raises:
        pytest.fail.Exception: a promise was broken; the message says which.
    """
    random = Random(seed)
    load = Workload(server.address, seed, victim.name)
    await _kill_and_go_on(load, server, victim, random)
    async with connected(server.address) as (client, channel):
        broken = await after(load, Actor(load, client, channel, CLIENTS, random))
    if broken:
        calls = server.data_dir.parent.with_suffix(".calls.jsonl")
        load.history.dump(calls)
        calls.with_suffix(".log").write_text(server.log)
        pytest.fail("\n".join([f"seed {seed}, calls and the server's log: {calls}", *broken]))
    assert len(valkeys(server)) == 1
    return load


async def _indexed(server: RunningServer, loads: list[Workload]) -> None:
    async with connected(server.address) as (client, _):
        for load in loads:
            await wait_indexed(load, client)


@pytest.mark.parametrize(
    ("deployment", "victim"), CASES, ids=[f"{d.name}-{v.name}" for d, v in CASES]
)
async def test_kill_9_loses_repeats_and_reorders_nothing(
    deployment: Deployment, victim: Victim, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = []
    with deployment.run() as server:
        for number in range(ROUNDS):
            began, seed = time.monotonic(), SEED + number
            with capsys.disabled():
                where = f"{deployment.name}, {victim.name}, round {number + 1} of {ROUNDS}"
                print(f"\n{where}, seed {seed}", end=": ", flush=True)
            loads.append(await _round(server, victim, seed))
            counts = ", ".join(f"{n} {how}" for how, n in loads[-1].history.counts().items())
            with capsys.disabled():
                print(f"{counts} in {time.monotonic() - began:.1f} s", flush=True)
        # For all rounds at once: work that a killed server had begun waits for its lease to end.
        began = time.monotonic()
        await _indexed(server, loads)
        with capsys.disabled():
            print(f"all can be recalled after {time.monotonic() - began:.1f} s more", flush=True)
        await asyncio.to_thread(server.stop)
        assert processes_of(server) == []
