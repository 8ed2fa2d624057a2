"""An actor notices what is not its own, and what is lost."""

from collections.abc import Iterator
from random import Random

import pytest
from tests.harness import RunningServer
from tests.tenancy.actor import Actor, Wrong

from recollect import errors


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningServer]:
    """A server without keys: everybody is the same tenant."""
    with RunningServer("--allow-global-cache", "--log-level", "warning") as server:
        yield server


async def test_tenants_that_are_one_see_each_other(shared: RunningServer) -> None:
    async with shared.async_client() as client:
        first, second = (Actor(tenant, client, Random(1)) for tenant in ("acme", "acm"))
        await first.create_session("ada", "s0")
        for see in (second.create_session, second.list_sessions, second.get_session):
            with pytest.raises((Wrong, errors.FailedPrecondition)):
                await see("ada", "s0")


@pytest.mark.parametrize("what", ["message", "fact", "session", "answer"])
async def test_something_lost_is_noticed(shared: RunningServer, what: str) -> None:
    async with shared.async_client(what) as client:
        actor = Actor("acme", client, Random(2))
        name = f"lost {what}"
        await actor.create_session(name, "s0")
        await actor.append(name, "s0")
        await actor.remember(name, "s0")
        await actor.store(name, "s0")
        await actor.verify(name)
        model = actor.model.user(name)
        match what:
            case "message":
                model.sessions["s0"].messages.append(("never said", ""))
            case "fact":
                model.facts["fact-0" if "fact-0" not in model.facts else "fact-1"] = "never stored"
            case "session":
                await client.memory.delete_session("s0", user_id=name)
            case "answer":
                await client.cache.invalidate(tag="red", user_id=name)
                await client.cache.invalidate(tag="green", user_id=name)
        with pytest.raises(Wrong):
            await _verify_often(actor, name)


async def _verify_often(actor: Actor, name: str) -> None:
    """Each time the answers of one scope, chosen at random, are compared."""
    for _ in range(30):
        await actor.verify(name)
