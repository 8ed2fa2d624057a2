"""Text of every plane in every field that holds text."""

import pytest
from tests.stores.sql.support import Stores, request

from recollect_server.admin.model import ApiKey, Grants, KeyRole
from recollect_server.chat.model import TurnStart, TurnState
from recollect_server.memory.due import JobKind
from recollect_server.memory.model import (
    NewEpisode,
    NewFact,
    NewMessage,
    NewSession,
    Role,
    Summary,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.watch import Position
from recollect_server.scope import Scope

PLANES = "".join(chr(plane * 0x10000 + offset) for plane in range(17) for offset in (0x41, 0xABCD))
CONTROLS = "".join(map(chr, range(1, 32))) + "\x7f\x80\u200f\u202e\ufeff\ufffe\uffff"
COMBINED = "e\u0301 \u1100\u1161 👩\u200d👩\u200d👧 \u212b % %s :name $1 ? \\ ' \" -- ;"


@pytest.fixture(params=[PLANES, CONTROLS, COMBINED], ids=["planes", "controls", "combined"])
def text(request) -> str:
    return request.param


@pytest.fixture
def scope(text: str) -> Scope:
    return Scope(text, text)


async def test_sessions_and_messages_keep_every_character(stores: Stores, scope, text):
    new = NewSession(text, title=text, metadata={text: text})
    created = await stores.sessions.create_session(scope, new, request(text, text))
    assert (created.session_id, created.title, created.metadata) == (text, text, {text: text})
    assert await stores.sessions.create_session(scope, new, request(text, text)) == created
    parts = (
        TextPart(text),
        ThinkingPart(text, text),
        ToolCallPart(text, text, text),
        ToolResultPart(text, text),
    )
    message = NewMessage(Role.USER, parts, text, None, {text: text}, text)
    done = await stores.sessions.append_messages(
        scope, text, [message], request=request(text), expected_revision=None
    )
    (stored,) = await stores.sessions.find_messages(scope, [(text, 1)])
    assert (stored,) == done.messages
    assert (stored.parts, stored.author_name, stored.external_id) == (parts, text, text)
    assert stored.metadata == {text: text}
    summary = Summary(text, 1, stores.clock(), text)
    saved = await stores.sessions.save_summary(scope, text, summary, 0)
    assert saved.summary == summary
    assert await stores.sessions.get_session(scope, text) == saved
    (listed,) = await stores.sessions.list_sessions(scope, limit=9, after=None)
    assert listed == saved
    changes, _ = await stores.changes.changes_after(
        scope, Position(0, 0), session_id=text, limit=99
    )
    assert [c.subject for c in changes] == [created, stored, saved]


async def test_facts_and_episodes_keep_every_character(stores: Stores, scope, text):
    (fact,) = (await stores.facts.remember(scope, [NewFact(text, text, {text: text})], None)).facts
    assert await stores.facts.get_fact(scope, text) == fact
    assert (fact.fact_id, fact.text, fact.metadata) == (text, text, {text: text})
    await stores.session(text, scope)
    await stores.append("x", session_id=text, scope=scope)
    now = stores.clock()
    new = NewEpisode(text, text, text, 1, 1, now, now)
    episode = await stores.episodes.save_episode(scope, text, new)
    assert (episode.title, episode.summary, episode.model) == (text, text, text)
    assert await stores.episodes.get_episode(scope, episode.episode_id) == episode


async def test_turns_jobs_and_keys_keep_every_character(stores: Stores, scope, text):
    await stores.session(text, scope)
    start = TurnStart("t", text, request(text, text), text, 60, wait=False)
    said = NewMessage(Role.USER, (TextPart(text),))
    begun = await stores.turns.begin_turn(scope, text, said, start)
    finished, _ = await stores.turns.finish_turn(scope, begun.turn, None, TurnState.FAILED)
    assert (finished.model, finished.request_id, finished.session_id) == (text, text, text)
    assert (await stores.turns.get_turn(scope, "t")).turn == finished
    await stores.sessions.clear_session(scope, text)
    job = await stores.jobs.lease_job([JobKind.EPISODE])
    assert (job.scope, job.session_id) == (scope, text)
    await stores.jobs.fail_job(job, text, waits=False)
    listed = await stores.jobs.list_jobs(text, state=None, limit=9, after=None)
    assert {j.last_error for j in listed} == {text, ""}
    assert {(j.user_id, j.session_id) for j in listed} == {(text, text), (text, "")}
    key = ApiKey("k", text, text, text, Grants(KeyRole(1)), stores.clock())
    await stores.keys.add_key(key, b"hash")
    assert await stores.keys.find_key("k") == (key, b"hash")


async def test_ids_that_differ_only_in_normal_form_or_case_are_different(stores: Stores):
    names = ["é", "e\u0301", "E", "e", "ß", "SS", "\u212b", "Å", "e ", " e"]
    for name in names:
        await stores.session(name, Scope(name, name))
        await stores.facts.remember(Scope(name, name), [NewFact(name, name)], None)
    for name in names:
        (session,) = await stores.sessions.list_sessions(Scope(name, name), limit=9, after=None)
        assert session.session_id == name
        assert (await stores.facts.get_fact(Scope(name, name), name)).text == name
