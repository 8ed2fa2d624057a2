"""Facts and their history."""

import asyncio

import pytest
from tests.stores.sql.support import ADA, request

from recollect_server.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
)
from recollect_server.memory.model import NewFact
from recollect_server.scope import Scope


async def test_facts_are_stored_all_or_none(stores):
    await stores.facts.remember(ADA, [NewFact("one", "f1")], None)
    with pytest.raises(AlreadyExists) as caught:
        await stores.facts.remember(ADA, [NewFact("two", "f2"), NewFact("again", "f1")], None)
    assert (caught.value.reason, caught.value.name) == (Reason.FACT_EXISTS, "f1")
    assert await stores.facts.get_facts(ADA, ["f1", "f2"]) == (
        await stores.facts.get_fact(ADA, "f1"),
    )


async def test_one_id_twice_in_a_request_is_refused(stores):
    with pytest.raises(AlreadyExists):
        await stores.facts.remember(ADA, [NewFact("a", "f"), NewFact("b", "f")], None)


async def test_a_repeated_request_stores_once(stores):
    facts = [NewFact("no id of its own")]
    key = request("r", "Remember")
    answers = await asyncio.gather(*(stores.facts.remember(ADA, facts, key) for _ in range(8)))
    assert all(answer == answers[0] for answer in answers)
    with pytest.raises(FailedPrecondition):
        await stores.facts.remember(ADA, facts, request("r", "Remember", digest=b"other"))


async def test_an_update_makes_a_version_and_keeps_the_one_before(stores):
    await stores.facts.remember(ADA, [NewFact("lives in Lisbon", "home", {"a": "b"})], None)
    stores.clock.move(days=1)
    updated = await stores.facts.update_fact(ADA, "home", {"text": "lives in Porto"})
    assert (updated.version, updated.text, updated.metadata) == (2, "lives in Porto", {"a": "b"})
    history = await stores.facts.fact_history(ADA, "home")
    assert [(f.version, f.text) for f in history] == [(1, "lives in Lisbon"), (2, "lives in Porto")]
    assert history[0].recorded_at < history[1].recorded_at
    assert await stores.facts.get_fact(ADA, "home") == updated


@pytest.mark.parametrize("changes", [{"text": ""}, {"valid_to": "before"}])
async def test_a_wrong_update_changes_nothing(stores, changes):
    await stores.facts.remember(ADA, [NewFact("x", "f")], None)
    if "valid_to" in changes:
        changes = {"valid_to": stores.clock()}
    with pytest.raises(InvalidArgument):
        await stores.facts.update_fact(ADA, "f", changes)
    assert len(await stores.facts.fact_history(ADA, "f")) == 1


async def test_a_forgotten_fact_is_gone_with_its_history(stores):
    await stores.facts.remember(ADA, [NewFact("x", "f")], None)
    await stores.facts.update_fact(ADA, "f", {"text": "y"})
    await stores.facts.forget_fact(ADA, "f")
    for attempt in (
        stores.facts.get_fact(ADA, "f"),
        stores.facts.fact_history(ADA, "f"),
        stores.facts.forget_fact(ADA, "f"),
        stores.facts.update_fact(ADA, "f", {"text": "z"}),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await stores.queue.lease_embedding("m", 8) is None


async def test_facts_are_paged_newest_first_and_closed_ones_left_out(stores):
    for number in range(5):
        stores.clock.move(seconds=1)
        await stores.facts.remember(ADA, [NewFact(str(number), f"f{number}")], None)
    stores.clock.move(seconds=1)
    await stores.facts.update_fact(ADA, "f2", {"valid_to": stores.clock()})
    names, after = [], None
    while page := await stores.facts.list_facts(ADA, limit=2, after=after, valid_only=True):
        names += [f.fact_id for f in page]
        after = (page[-1].recorded_at, page[-1].fact_id)
    assert names == ["f4", "f3", "f1", "f0"]
    every = await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)
    assert [f.fact_id for f in every] == ["f2", "f4", "f3", "f1", "f0"]


@pytest.mark.parametrize("stranger", [Scope("acme", "bob"), Scope("other", "ada")])
async def test_a_stranger_sees_no_fact(stores, stranger):
    await stores.facts.remember(ADA, [NewFact("x", "f")], None)
    assert await stores.facts.get_facts(stranger, ["f"]) == ()
    assert await stores.facts.list_facts(stranger, limit=9, after=None, valid_only=False) == ()
    with pytest.raises(NotFound):
        await stores.facts.forget_fact(stranger, "f")
    await stores.facts.remember(stranger, [NewFact("mine", "f")], None)
    assert (await stores.facts.get_fact(ADA, "f")).text == "x"
