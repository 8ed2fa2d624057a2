"""Tenants that use the same ids for everything see exactly their own, on every store.

RECOLLECT_TENANCY_OPERATIONS is how many operations are done on each set of stores, by all tenants
together; RECOLLECT_TENANCY_SEED chooses them. docs/tenancy.md says what is done and compared.
"""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom

import pytest
from tests.tenancy.actor import MARKS, USERS, Actor
from tests.tenancy.deployments import DEPLOYMENTS, Deployment, Shared

from recollect import AsyncRecollect

OPERATIONS = int(os.environ.get("RECOLLECT_TENANCY_OPERATIONS", "1000"))
SEED = int(os.environ.get("RECOLLECT_TENANCY_SEED") or SystemRandom().randrange(10**6))


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment.name)
async def test_each_tenant_sees_exactly_its_own(
    deployment: Deployment,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = time.monotonic()
    with deployment.run(tmp_path, lambda: request.getfixturevalue("postgres")) as shared:
        counts = await _act(shared)
        assert "Traceback" not in shared.server.log, shared.server.log
        assert shared.server.stop() == 0
    with capsys.disabled():
        done = sum(counts.values()) - counts["watched"] - counts["degraded"]
        print(
            f"\n{deployment.name}, seed {SEED}: {done} operations of {len(MARKS)} tenants in "
            f"{time.monotonic() - started:.0f} s, {counts['watched']} changes watched, "
            f"{counts['degraded']} lookups degraded",
            end="",
        )
    assert counts["watched"] > 0


async def _act(shared: Shared) -> Counter[str]:
    """Let all tenants act at once; return how often each thing was done."""
    actors = []
    for tenant, token in (await shared.tokens()).items():
        client = AsyncRecollect(shared.server.address, api_key=token)
        actors.append(Actor(tenant, client, Random(f"{SEED}/{tenant}")))
    try:
        await asyncio.gather(*map(_one, actors))
    finally:
        for actor in actors:
            await actor.client.close()
    return sum((actor.counts for actor in actors), Counter())


async def _one(actor: Actor) -> None:
    """Let a tenant act while it watches its users; both must come to a good end."""
    async with asyncio.TaskGroup() as group:
        watching = []
        for name in USERS:
            begun = asyncio.Event()
            watching.append(group.create_task(actor.watch(name, begun)))
            await begun.wait()
        await actor.run(OPERATIONS // len(MARKS))
        for task in watching:
            task.cancel()
