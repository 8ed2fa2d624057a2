"""Ends of sessions, and what goes with a session."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.stores.sql.support import ADA, message, request

from recollect_server.chat.model import TurnStart
from recollect_server.errors import NotFound, Reason
from recollect_server.memory.fact_plan import Plan, Step, first_version
from recollect_server.memory.model import FactSource, NewEpisode, NewFact, NewSession, Summary
from recollect_server.memory.watch import ChangeType, Position
from recollect_server.scope import Scope
from recollect_server.stores.sql.fact_writes import FactWriter
from recollect_server.stores.sql.upkeep import CLOCK_SKEW
from recollect_server.stores.sql.users import step_revision

TABLES = ("messages", "message_vectors", "pending_vectors", "turns", "episodes", "jobs", "sessions")


async def _create(stores, *, idle=0.0, lives=None):
    expire = None if lives is None else stores.clock() + timedelta(seconds=lives)
    await stores.sessions.create_session(
        ADA, NewSession("s", idle_ttl=timedelta(seconds=idle), expire_time=expire), None
    )


async def _begin(stores):
    start = TurnStart("t", "m", request("turn", "Chat"), "here", 60, wait=False)
    return await stores.turns.begin_turn(ADA, "s", message("hi"), start)


async def _upkeep(stores):
    while await stores.upkeep.run_upkeep():
        pass


async def _is_gone(stores):
    now = stores.clock()
    summary = Summary("text", 1, now, "m")
    for attempt in (
        lambda: stores.sessions.get_session(ADA, "s"),
        lambda: stores.texts(),
        lambda: stores.append("x"),
        lambda: stores.append("x", request=request("late")),
        lambda: stores.sessions.update_session(ADA, "s", {"title": "x"}, None),
        lambda: stores.sessions.clear_session(ADA, "s"),
        lambda: stores.sessions.save_summary(ADA, "s", summary, 0),
        lambda: stores.sessions.delete_session(ADA, "s"),
        lambda: stores.episodes.save_episode(ADA, "s", NewEpisode("t", "s", "m", 1, 1, now, now)),
        lambda: _begin(stores),
    ):
        with pytest.raises(NotFound) as caught:
            await attempt()
        assert caught.value.reason is Reason.SESSION_NOT_FOUND
    listed = await stores.sessions.list_sessions(ADA, limit=9, after=None)
    assert "s" not in {session.session_id for session in listed}
    assert await stores.sessions.find_messages(ADA, [("s", 1)]) == ()
    assert await stores.episodes.list_episodes(ADA, limit=9, after=None) == ()


async def test_an_idle_session_ends_for_everyone_at_once_and_its_id_can_be_used_again(stores):
    await _create(stores, idle=60)
    await stores.append("old")
    now = stores.clock()
    await stores.episodes.save_episode(ADA, "s", NewEpisode("t", "s", "m", 1, 1, now, now))
    stores.clock.move(seconds=59.999)
    assert await stores.texts() == ["old"]
    stores.clock.move(seconds=0.002)
    await _is_gone(stores)
    await _create(stores)
    assert await stores.texts() == []
    assert await stores.rows("SELECT COUNT(*) FROM messages") == [(0,)]


async def test_upkeep_deletes_what_ended_and_nothing_else(stores):
    await _create(stores, idle=60)
    await stores.append("old")
    await _begin(stores)
    await stores.session("stays")
    await stores.append("kept", session_id="stays")
    stores.clock.move(seconds=61)
    await _upkeep(stores)
    await _is_gone(stores)
    assert len(await stores.rows("SELECT 1 FROM sessions")) == 2, "by other clocks it may live"
    stores.clock.move(microseconds=CLOCK_SKEW)
    await _upkeep(stores)
    assert await stores.rows("SELECT session_id FROM sessions") == [("stays",)]
    assert await stores.texts("stays") == ["kept"]
    assert await stores.rows("SELECT COUNT(*) FROM turns") == [(0,)]


async def test_every_append_prolongs_the_idle_time_but_not_the_expire_time(stores):
    await _create(stores, idle=60, lives=150)
    for number in range(3):
        stores.clock.move(seconds=45)
        await stores.append(str(number))
    assert await stores.texts() == ["0", "1", "2"]
    stores.clock.move(seconds=16)
    await _is_gone(stores)


async def test_a_summary_made_in_the_background_does_not_prolong_the_idle_time(stores):
    await _create(stores, idle=60)
    await stores.append("a")
    stores.clock.move(seconds=50)
    summary = Summary("text", 1, stores.clock(), "m")
    assert await stores.sessions.save_summary(ADA, "s", summary, 0)
    stores.clock.move(seconds=11)
    await _is_gone(stores)


async def test_an_update_changes_both_ends(stores):
    await _create(stores, idle=60, lives=100)
    never = {"idle_ttl": timedelta(0), "expire_time": None}
    await stores.sessions.update_session(ADA, "s", never, None)
    stores.clock.move(days=900)
    assert (await stores.sessions.get_session(ADA, "s")).expire_time is None
    at = stores.clock() + timedelta(seconds=30)
    await stores.sessions.update_session(ADA, "s", {"expire_time": at}, None)
    stores.clock.move(seconds=29)
    assert (await stores.sessions.get_session(ADA, "s")).expire_time == at
    later = {"expire_time": None, "idle_ttl": timedelta(seconds=20)}
    await stores.sessions.update_session(ADA, "s", later, None)
    stores.clock.move(seconds=19)
    assert await stores.texts() == []
    stores.clock.move(seconds=1)
    await _is_gone(stores)


async def _know(stores, fact_id, *sessions):
    """Store a fact that was drawn from sessions, as extraction will."""
    now = stores.clock()

    def work(tx):
        user_key, revision = step_revision(tx, ADA)
        fact = first_version(NewFact("text", fact_id), now)
        fact = replace(fact, sources=tuple(FactSource(s, 1, 1) for s in sessions))
        FactWriter(tx, user_key, revision, now).carry_out(Plan((Step(fact, always=True),)))

    await stores.database.write(work)


async def test_deleting_a_session_leaves_nothing_that_was_drawn_from_it_alone(stores):
    await stores.session()
    await _begin(stores)
    await stores.append("a", "b")
    task = await stores.queue.lease_embedding("m", 2)
    await stores.queue.complete_embedding(task, "m", np.eye(2, 8, dtype=np.float32))
    now = stores.clock()
    episode = await stores.episodes.save_episode(
        ADA, "s", NewEpisode("t", "s", "m", 1, 2, now, now)
    )
    await stores.sessions.clear_session(ADA, "s")
    await stores.session("other")
    await _know(stores, "only", "s")
    await _know(stores, "both", "s", "other")
    await _know(stores, "given")
    ids = {m.message_id for m in await stores.sessions.find_messages(ADA, [("s", 1), ("s", 2)])}
    before = await stores.source.index_changes(ADA, 0, "m")
    assert {item.item_id for item in before.upserts} >= ids | {episode.episode_id, "only"}
    await stores.sessions.delete_session(ADA, "s")
    for table in TABLES:
        where = "WHERE session_id <> 'other'" if table == "sessions" else "WHERE session_key <> 0"
        assert await stores.rows(f"SELECT COUNT(*) FROM {table} {where}") == [(0,)], table
    after = await stores.source.index_changes(ADA, before.revision, "m")
    assert {item_id for _, item_id in after.deletes} >= ids | {episode.episode_id, "only"}
    facts = await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)
    assert {fact.fact_id for fact in facts} == {"both", "given"}
    with pytest.raises(NotFound):
        await stores.episodes.get_episode(ADA, episode.episode_id)
    with pytest.raises(NotFound):
        await stores.turns.get_turn(ADA, "t")
    told, _ = await stores.changes.changes_after(
        ADA,
        Position(after.revision, 0),
        session_id="",
        limit=99,
    )
    assert [c.type for c in told] == [ChangeType.DELETED] * 3


async def test_many_sessions_that_end_together_are_deleted_in_bites_by_two_servers(stores, other):
    for number in range(50):
        await stores.sessions.create_session(
            Scope("acme", f"u{number % 7}"),
            NewSession(f"s{number}", idle_ttl=timedelta(seconds=1)),
            None,
        )
    stores.clock.move(seconds=2, microseconds=CLOCK_SKEW)
    async with asyncio.timeout(60):
        await asyncio.gather(_upkeep(stores), _upkeep(other))
    assert await stores.rows("SELECT COUNT(*) FROM sessions") == [(0,)]
    deleted = await stores.rows("SELECT session_id FROM changes WHERE type = 3")
    assert sorted(deleted) == sorted((f"s{n}",) for n in range(50))
