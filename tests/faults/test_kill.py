"""What was acknowledged stays, once and in order, whichever process is killed at any moment.

docs/faults.md says what is checked. RECOLLECT_FAULT_ROUNDS is how many rounds with victims at
random there are, over all deployments. A round's line shows its seed; RECOLLECT_FAULT_SEED is the
first round's, so that a round can be run again: its choices are the same, its timing is not.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import SystemRandom

import pytest
from tests.faults.deployment import DEPLOYMENTS, Deployment
from tests.faults.ending import ending
from tests.faults.rounds import Campaign

ROUNDS = int(os.environ.get("RECOLLECT_FAULT_ROUNDS", str(len(DEPLOYMENTS))))
SEED = int(os.environ.get("RECOLLECT_FAULT_SEED") or SystemRandom().randrange(10**6))
EACH = -(-ROUNDS // len(DEPLOYMENTS))
PAIRS = [(deployment, victim) for deployment in DEPLOYMENTS for victim in deployment.victims]


class Fleet:
    """The deployments that run: each is started when it is first needed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._campaigns: dict[str, Campaign] = {}

    def campaign(self, deployment: Deployment) -> Campaign:
        """Return the campaign against a deployment."""
        if deployment.name not in self._campaigns:
            running = self._stack.enter_context(deployment.run())
            self._campaigns[deployment.name] = Campaign(deployment.name, running)
        return self._campaigns[deployment.name]

    async def end(self) -> list[str]:
        """Wait until the work is done everywhere, stop everything; return what is wrong."""
        wrong = []
        for found in await asyncio.gather(*map(_end, self._campaigns.values())):
            wrong += found
        return wrong

    def summaries(self) -> Iterator[str]:
        """Yield what was done to each deployment."""
        return (campaign.summary() for campaign in self._campaigns.values())


async def _end(campaign: Campaign) -> list[str]:
    try:
        wrong = await ending(campaign)
    except Exception as error:  # noqa: BLE001 - the others' ends are of interest too
        wrong = [f"the end failed: {error!r}"]
    wrong += await asyncio.to_thread(campaign.running.stop)
    return [f"{campaign.name}: {what}" for what in wrong]


@pytest.fixture(scope="module")
def fleet(pytestconfig: pytest.Config) -> Iterator[Fleet]:
    """Deployments shared by the tests of this module.

    Work that a killed process had begun waits for its lease to end, so what must be true in the end
    is waited for once, after the last test.
    """
    with ExitStack() as stack:
        running = Fleet(stack)
        yield running
        wrong = asyncio.run(running.end())
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled():
            print("", *running.summaries(), f"{len(wrong)} violations in the end", sep="\n")
        assert wrong == []


@pytest.mark.parametrize(("deployment", "victim"), PAIRS, ids=[f"{d.name}-{v}" for d, v in PAIRS])
async def test_kill_9_loses_repeats_and_reorders_nothing(
    fleet: Fleet, deployment: Deployment, victim: str, say: Callable[[str], None]
) -> None:
    await fleet.campaign(deployment).rounds(victim, [SEED], [victim], say)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment.name)
async def test_kill_9_of_anything_loses_repeats_and_reorders_nothing(
    fleet: Fleet, deployment: Deployment, say: Callable[[str], None]
) -> None:
    seeds = range(SEED, SEED + EACH)
    await fleet.campaign(deployment).rounds("anything", seeds, deployment.victims, say)
