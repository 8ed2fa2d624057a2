"""Rolling summaries and episodes, and when background work is queued for them."""

import asyncio
from datetime import timedelta

import pytest
from tests.stores.sql.support import ADA, Stores

from recollect_server.memory.due import DuePolicy, JobKind
from recollect_server.memory.model import NewEpisode, Summary
from recollect_server.memory.tokens import estimate_message
from recollect_server.scope import Scope
from recollect_server.stores.sql.messages import BURST_DELAY

IDLE = DuePolicy().episode_idle


def _summary(stores, through, text="what was said"):
    return Summary(text, through, stores.clock(), "m")


def _episode(stores, first, last, title="t"):
    now = stores.clock()
    return NewEpisode(title, "summary", "m", first, last, now, now + timedelta(seconds=1))


async def _jobs(stores, kind: JobKind) -> list[str]:
    found = await stores.jobs.list_jobs("acme", state=None, limit=500, after=None)
    return [job.session_id for job in found if job.kind == kind]


async def _upkeep(stores):
    while await stores.upkeep.run_upkeep():
        pass


async def test_one_of_two_summaries_of_the_same_messages_is_kept(stores, other):
    await stores.session()
    await stores.append(*(str(n) for n in range(20)))
    through = 0
    for last in (5, 9, 14):
        both = await asyncio.gather(
            stores.sessions.save_summary(ADA, "s", _summary(stores, last, "a"), through),
            other.sessions.save_summary(ADA, "s", _summary(other, last, "b"), through),
        )
        assert sorted(saved is None for saved in both) == [False, True]
        (won,) = (saved for saved in both if saved is not None)
        assert await stores.sessions.get_session(ADA, "s") == won
        through = last
    assert won.revision == 1 + 1 + 3


async def test_a_summary_leaves_the_tokens_of_the_messages_after_it(stores):
    await stores.session()
    done = await stores.append(*("word " * n for n in range(1, 15)))
    tokens = [message.token_count for message in done.messages]
    assert tokens == [estimate_message(message.parts) for message in done.messages]
    assert (await stores.sessions.get_session(ADA, "s")).open_tokens == sum(tokens)
    saved = await stores.sessions.save_summary(ADA, "s", _summary(stores, 8), 0)
    assert (saved.summary_through, saved.open_tokens) == (8, sum(tokens[8:]))
    more = await stores.append("more")
    after = await stores.sessions.get_session(ADA, "s")
    assert after.open_tokens == sum(tokens[8:]) + more.messages[0].token_count
    cleared = await stores.sessions.clear_session(ADA, "s")
    assert (cleared.open_tokens, cleared.summary, cleared.summary_through) == (0, None, 15)
    late = await stores.sessions.save_summary(ADA, "s", _summary(stores, 12), 8)
    assert late is None, "what was cleared is not summarised"


async def test_messages_that_come_while_a_summary_is_made_stay_open(stores, other):
    await stores.session()
    await stores.append(*(str(n) for n in range(14)))
    await asyncio.gather(
        stores.sessions.save_summary(ADA, "s", _summary(stores, 8), 0),
        *(other.append(f"late {n}") for n in range(10)),
    )
    session = await stores.sessions.get_session(ADA, "s")
    (tokens,) = await stores.rows("SELECT SUM(token_count) FROM messages WHERE sequence > 8")
    assert session.open_tokens == tokens[0]


async def test_an_append_queues_a_summary_when_it_is_due_and_not_before(stores):
    await stores.session()
    for number in range(12):
        await stores.append(str(number))
        assert await _jobs(stores, JobKind.SUMMARIZE) == [], number
    await stores.append("the 13th")
    assert await _jobs(stores, JobKind.SUMMARIZE) == ["s"]
    await stores.append("the 14th")
    assert await _jobs(stores, JobKind.SUMMARIZE) == ["s"]
    await stores.session("long")
    await stores.append("word " * 5000, session_id="long")
    assert await _jobs(stores, JobKind.SUMMARIZE) == ["s"], "the newest six are left alone"
    await stores.append(*"abcde", session_id="long")
    assert await _jobs(stores, JobKind.SUMMARIZE) == ["s"]
    await stores.append("f", session_id="long")
    assert sorted(await _jobs(stores, JobKind.SUMMARIZE)) == ["long", "s"]


async def test_messages_that_come_while_a_summary_is_finished_are_summarised_too(stores, other):
    await stores.session()
    await stores.append(*(str(n) for n in range(13)))
    assert await stores.jobs.lease_job([JobKind.SUMMARIZE]) is None, "a burst may be under way"
    stores.clock.move(microseconds=BURST_DELAY)
    job = await stores.jobs.lease_job([JobKind.SUMMARIZE])
    await stores.sessions.save_summary(ADA, "s", _summary(stores, 7), 0)
    await other.append(*(str(n) for n in range(7)))
    await stores.jobs.finish_job(job)
    again = await stores.jobs.lease_job([JobKind.SUMMARIZE])
    assert again is not None
    await stores.sessions.save_summary(ADA, "s", _summary(stores, 14), 7)
    await stores.jobs.finish_job(again)
    assert await _jobs(stores, JobKind.SUMMARIZE) == []


async def test_an_episode_is_stored_only_if_it_follows_the_last_one(stores, other):
    await stores.session()
    await stores.append(*(str(n) for n in range(10)))
    save = stores.episodes.save_episode
    assert await save(ADA, "s", _episode(stores, 2, 5)) is None
    both = await asyncio.gather(
        save(ADA, "s", _episode(stores, 1, 5, "a")),
        other.episodes.save_episode(ADA, "s", _episode(stores, 1, 4, "b")),
    )
    (first,) = (episode for episode in both if episode is not None)
    assert await save(ADA, "s", _episode(stores, 1, 10)) is None
    second = await save(ADA, "s", _episode(stores, first.last_sequence + 1, 10))
    assert (await stores.sessions.get_session(ADA, "s")).episode_through == 10
    assert await stores.episodes.get_episodes(ADA, (second.episode_id, "no", first.episode_id)) == (
        second,
        first,
    )
    assert await stores.episodes.get_episode(ADA, first.episode_id) == first


async def test_episodes_are_paged_latest_first_within_their_scope(stores):
    for name in "abc":
        await stores.session(name)
        await stores.append("1", "2", session_id=name)
        for sequence in (1, 2):
            stores.clock.move(seconds=1)
            new = _episode(stores, sequence, sequence, f"{name}{sequence}")
            assert await stores.episodes.save_episode(ADA, name, new)
    titles, after = [], None
    while page := await stores.episodes.list_episodes(ADA, limit=2, after=after):
        titles += [episode.title for episode in page]
        after = (page[-1].end_time, page[-1].episode_id)
    assert titles == ["c2", "c1", "b2", "b1", "a2", "a1"]
    of_b = await stores.episodes.list_episodes(ADA, limit=9, after=None, session_id="b")
    assert [episode.title for episode in of_b] == ["b2", "b1"]
    bob = Scope("acme", "bob")
    assert await stores.episodes.list_episodes(bob, limit=9, after=None) == ()
    assert await stores.episodes.get_episodes(bob, ("x",)) == ()


async def test_clearing_queues_an_episode_of_what_has_none(stores):
    await stores.session()
    await stores.sessions.clear_session(ADA, "s")
    assert await _jobs(stores, JobKind.EPISODE) == []
    await stores.append("a", "b")
    await stores.sessions.clear_session(ADA, "s")
    assert await _jobs(stores, JobKind.EPISODE) == ["s"]
    job = await stores.jobs.lease_job([JobKind.EPISODE])
    await stores.episodes.save_episode(ADA, "s", _episode(stores, 1, 2))
    await stores.jobs.finish_job(job)
    await stores.sessions.clear_session(ADA, "s")
    assert await _jobs(stores, JobKind.EPISODE) == []


async def test_upkeep_queues_an_episode_of_each_idle_session_once(stores, other):
    for number in range(30):
        await stores.session(f"s{number:02}")
        if number % 3:
            await stores.append("x", session_id=f"s{number:02}")
    stores.clock.move(seconds=IDLE.total_seconds() - 1)
    await stores.append("not idle", session_id="s01")
    await _upkeep(stores)
    assert await _jobs(stores, JobKind.EPISODE) == []
    stores.clock.move(seconds=2)
    await asyncio.gather(_upkeep(stores), _upkeep(other))
    idle = sorted(f"s{n:02}" for n in range(2, 30) if n % 3)
    assert sorted(await _jobs(stores, JobKind.EPISODE)) == idle
    job = await stores.jobs.lease_job([JobKind.EPISODE])
    await stores.episodes.save_episode(ADA, job.session_id, _episode(stores, 1, 1))
    await stores.jobs.finish_job(job)
    await _upkeep(stores)
    assert sorted(await _jobs(stores, JobKind.EPISODE)) == sorted({*idle} - {job.session_id})


@pytest.mark.parametrize("text", ["NUL \x00", "\U0010ffff 🙂 \ud7ff \ufffd \u202e"])
async def test_every_text_of_a_model_can_be_stored(stores: Stores, text):
    await stores.session()
    await stores.append("a")
    now = stores.clock()
    new = NewEpisode(text, text, text, 1, 1, now, now)
    saved = await stores.episodes.save_episode(ADA, "s", new)
    (found,) = await stores.episodes.get_episodes(ADA, (saved.episode_id,))
    assert found.title.replace("\ufffd", "\x00") == text.replace("\ufffd", "\x00")
    summary = await stores.sessions.save_summary(ADA, "s", _summary(stores, 1, text), 0)
    assert summary.summary.text == text
