"""Facts and their history."""

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.stores.sql.support import ADA, Stores, request

from recollect_server.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
    Unavailable,
)
from recollect_server.memory.due import JobKind
from recollect_server.memory.forgetting import Forgetting
from recollect_server.memory.model import FactKind, NewFact, NewSession
from recollect_server.scope import Scope
from recollect_server.stores.sql.fact_notices import SqlNotices

ROOT = Path(__file__).resolve().parents[3]


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


async def _every(stores: Stores):
    return await stores.facts.list_facts(ADA, limit=99, after=None, valid_only=False)


async def test_a_fact_that_adds_nothing_is_returned_and_not_stored_again(stores):
    given = NewFact("I like tea.", metadata={"a": "1"}, kind=FactKind.PREFERENCE)
    (first,) = (await stores.facts.remember(ADA, [given], None)).facts
    stores.clock.move(days=1)
    for again in (
        given,
        NewFact("i like  tea"),
        NewFact("I like tea", valid_from=first.valid_from),
    ):
        done = await stores.facts.remember(ADA, [again], None)
        assert [(r.fact, r.action.name) for r in done.results] == [(first, "IGNORED")]
    assert await _every(stores) == (first,)


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"b": "2"}},
        {"kind": FactKind.PROJECT},
        {"fact_id": "chosen"},
        {"valid_from": -1},
        {"valid_to": 1},
    ],
)
async def test_a_fact_that_adds_something_is_stored_beside_the_other(stores, more):
    for name in ("valid_from", "valid_to"):
        if name in more:
            more = {name: stores.clock() + timedelta(days=more[name])}
    await stores.facts.remember(ADA, [NewFact("I like tea")], None)
    stores.clock.move(hours=1)
    done = await stores.facts.remember(ADA, [NewFact("I like tea", **more)], None)
    assert [r.action.name for r in done.results] == ["ADDED"]
    assert len(await _every(stores)) == 2


async def test_a_fact_that_was_forgotten_or_has_ended_can_be_stored_anew(stores):
    (one,) = (await stores.facts.remember(ADA, [NewFact("I like tea")], None)).facts
    await stores.facts.forget_fact(ADA, one.fact_id)
    (two,) = (await stores.facts.remember(ADA, [NewFact("I like tea")], None)).facts
    stores.clock.move(days=1)
    await stores.facts.update_fact(ADA, two.fact_id, {"valid_to": stores.clock()})
    (three,) = (await stores.facts.remember(ADA, [NewFact("I like tea")], None)).facts
    assert len({one.fact_id, two.fact_id, three.fact_id}) == 3


def test_processes_that_remember_one_fact_make_one(location):
    command = [sys.executable, str(Path(__file__).parent / "fact_writer.py"), str(location), "8"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen(
            [*command, text], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        for text in ("I live in Paris", "I live in Paris.", "i live in paris", "I LIVE IN PARIS")
    ]
    ids = [line for writer in writers for line in writer.communicate()[0].split()]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert (len(ids), len(set(ids))) == (32, 1)


async def test_facts_are_listed_by_kind(stores):
    facts = [NewFact(kind.name, kind.name, kind=kind) for kind in FactKind]
    await stores.facts.remember(ADA, facts, None)
    wanted = frozenset({FactKind.ISSUE, FactKind.PROFILE})
    found = await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=True, kinds=wanted)
    assert {fact.kind for fact in found} == wanted
    updated = await stores.facts.update_fact(ADA, "ISSUE", {"kind": FactKind.OTHER})
    assert (updated.kind, updated.text) == (FactKind.OTHER, "ISSUE")


class Listener:
    """Keeps what it is told; down when it is told to be."""

    def __init__(self) -> None:
        self.down = True
        self.told: list[str] = []
        self.sessions: list[str] = []

    async def forget_facts(self, scope, fact_ids) -> None:
        if self.down:
            raise Unavailable(Reason.STORE_UNAVAILABLE, "down")
        assert scope == ADA
        self.told += fact_ids

    async def forget_session(self, scope, session_id) -> None:
        assert scope == ADA
        self.sessions.append(session_id)


async def test_who_rests_on_facts_learns_of_every_change_however_long_it_was_down(stores, other):
    facts = [NewFact(name, name) for name in ("kept", "changed", "forgotten", "changed later")]
    await stores.facts.remember(ADA, facts, None)
    await stores.facts.update_fact(ADA, "changed", {"text": "new"})
    await stores.facts.forget_fact(ADA, "forgotten")
    listener = Listener()
    notices = SqlNotices(other.database)
    job = await other.jobs.lease_job([JobKind.FORGET])
    with pytest.raises(Unavailable):
        await Forgetting(notices, listener).run(job)
    await other.jobs.fail_job(job, "down", waits=True)
    listener.down = False
    stores.clock.move(hours=1)
    job = await other.jobs.lease_job([JobKind.FORGET])
    await Forgetting(notices, listener).run(job)
    await other.jobs.finish_job(job)
    assert sorted(listener.told) == ["changed", "forgotten"]
    assert await other.jobs.lease_job([JobKind.FORGET]) is None
    await stores.facts.update_fact(ADA, "changed later", {"text": "newer"})
    job = await other.jobs.lease_job([JobKind.FORGET])
    await Forgetting(notices, listener).run(job)
    assert listener.told[2:] == ["changed later"]


async def test_who_keeps_answers_of_a_session_learns_that_it_was_deleted(stores):
    for name in ("s", "kept", "session/odd"):
        await stores.sessions.create_session(ADA, NewSession(name), None)
    for name in ("s", "session/odd"):
        await stores.sessions.delete_session(ADA, name)
    listener = Listener()
    listener.down = False
    job = await stores.jobs.lease_job([JobKind.FORGET])
    await Forgetting(SqlNotices(stores.database), listener).run(job)
    assert sorted(listener.sessions) == ["s", "session/odd"]
