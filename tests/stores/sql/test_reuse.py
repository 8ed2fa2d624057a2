"""A session that is made again under its id has nothing of the one before, whatever comes late."""

from datetime import timedelta

import pytest
from tests.stores.sql.support import ADA, request

from recollect_server.errors import NotFound
from recollect_server.memory.fact_plan import Plan, Step, found
from recollect_server.memory.model import ExtractedFact, NewEpisode, Summary


async def _again(stores) -> None:
    await stores.sessions.delete_session(ADA, "s")
    stores.clock.move(seconds=1)
    await stores.session()


async def test_a_late_summary_of_the_one_before_is_not_stored(stores):
    await stores.session()
    before = await stores.sessions.get_session(ADA, "s")
    await _again(stores)
    await stores.append("new")
    summary = Summary("old secret", 9, stores.clock(), "m")
    saved = await stores.sessions.save_summary(ADA, "s", summary, 0, before.create_time)
    assert saved is None
    assert (await stores.sessions.get_session(ADA, "s")).summary is None


async def test_late_facts_and_episodes_of_the_one_before_are_not_stored(stores):
    await stores.session()
    before = await stores.sessions.get_session(ADA, "s")
    await _again(stores)
    await stores.append("new")
    plan = _plan(stores, ExtractedFact("old secret", 1.0, (1,), stores.clock()))
    saved = await stores.facts.save_extracted(
        ADA,
        "s",
        plan,
        through=1,
        replaces_through=0,
        session_time=before.create_time,
    )
    assert saved is None
    now = stores.clock()
    episode = NewEpisode("old", "secret", "m", 1, 1, now - timedelta(hours=1), now)
    assert await stores.episodes.save_episode(ADA, "s", episode, before.create_time) is None
    assert await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False) == ()
    assert await stores.episodes.list_episodes(ADA, limit=9, after=None) == ()


async def test_a_repeated_append_to_the_one_before_finds_no_session(stores):
    await stores.session()
    await stores.append("old", request=request("r"))
    await _again(stores)
    with pytest.raises(NotFound):
        await stores.append("old", request=request("r"))
    assert await stores.texts() == []


async def test_equal_facts_of_one_answer_are_stored_once(stores):
    await stores.session()
    await stores.append("a")
    facts = [
        ExtractedFact("same", 1.0, (1,), stores.clock()),
        ExtractedFact("Same.", 0.5, (1,), stores.clock()),
    ]
    saved = await stores.facts.save_extracted(
        ADA, "s", _plan(stores, *facts), through=1, replaces_through=0
    )
    assert [(r.fact.text, r.action.name) for r in saved] == [("same", "ADDED"), ("same", "IGNORED")]
    again = await stores.facts.save_extracted(
        ADA, "s", _plan(stores, *facts), through=1, replaces_through=1
    )
    assert [r.action.name for r in again] == ["IGNORED", "IGNORED"]
    assert len(await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)) == 1


def _plan(stores, *facts: ExtractedFact) -> Plan:
    """What is planned if nothing else is held."""
    return Plan(tuple(Step(found(fact, "s", "m", stores.clock())) for fact in facts), as_of=0)
