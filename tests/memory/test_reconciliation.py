"""Statements compared with the facts held: by rules and by a judge, over the real stores."""

import asyncio
from datetime import timedelta

import pytest
from tests.stores.exact.test_exact_index import WordEmbedder
from tests.stores.sql.conftest import *  # noqa: F403 - both databases, as fixtures
from tests.stores.sql.support import ADA, Stores

from recollect_server.errors import Aborted, Reason, Unavailable
from recollect_server.memory.due import JobKind
from recollect_server.memory.extraction import Extraction
from recollect_server.memory.fact_plan import FactsChanged, first_version
from recollect_server.memory.jobs import BadModelAnswer, Job
from recollect_server.memory.model import (
    ExtractedFact,
    FactAction,
    FactKind,
    MemoryKind,
    NewFact,
)
from recollect_server.memory.ports import RecallFilter
from recollect_server.memory.reconciliation import Judgement, Reconciler
from recollect_server.stores.exact import ExactIndex


class ScriptedJudge:
    """Answers by a function, and counts how often it was asked."""

    def __init__(self, decide) -> None:
        self.decide = decide
        self.asked: list = []

    async def judge(self, compared):
        self.asked.append(compared)
        await asyncio.sleep(0)
        return tuple(self.decide(c) for c in compared)


def _reconciler(stores: Stores, judge=None) -> Reconciler:
    index = ExactIndex(stores.source, WordEmbedder())
    return Reconciler(stores.facts, index, stores.source, judge, stores.clock)


async def _remember(stores: Stores, *facts: NewFact | str, judge=None, **how):
    given = [NewFact(f) if isinstance(f, str) else f for f in facts]
    new = [first_version(f, stores.clock()) for f in given]

    async def save(plan):
        return await stores.facts.remember(ADA, given, None, plan)

    done = await _reconciler(stores, judge).apply(ADA, new, save, **how)
    return [(r.fact.text, r.action.name) for r in done.results]


async def _held(stores: Stores) -> list[str]:
    found = await stores.facts.list_facts(ADA, limit=99, after=None, valid_only=True)
    return sorted(fact.text for fact in found)


async def test_another_value_closes_the_fact_before_and_keeps_its_history(stores):
    await _remember(stores, "I live in Paris", "I like tea")
    stores.clock.move(days=1)
    assert await _remember(stores, "I live in Berlin") == [("I live in Berlin", "SUPERSEDED")]
    assert await _held(stores) == ["I like tea", "I live in Berlin"]
    every = await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)
    berlin, paris = (next(f for f in every if town in f.text) for town in ("Berlin", "Paris"))
    assert (paris.valid_to, paris.superseded_by) == (berlin.valid_from, berlin.fact_id)
    first, closed = await stores.facts.fact_history(ADA, paris.fact_id)
    assert (first.valid_to, first.superseded_by, closed.version) == (None, "", 2)
    assert first.recorded_at < closed.recorded_at
    reopened = await stores.facts.update_fact(ADA, paris.fact_id, {"valid_to": None})
    assert (reopened.valid_to, reopened.superseded_by) == (None, "")


async def test_what_was_said_earlier_is_closed_by_what_was_said_later(stores):
    await _remember(stores, "I live in Berlin")
    since = stores.clock() - timedelta(days=900)
    assert await _remember(stores, NewFact("I live in Paris", valid_from=since)) == [
        ("I live in Paris", "ADDED")
    ]
    assert await _held(stores) == ["I live in Berlin"]
    (paris,) = await stores.facts.same_facts(ADA, "i live in paris")
    (berlin,) = await stores.facts.same_facts(ADA, "i live in berlin")
    assert (paris.valid_from, paris.valid_to) == (since, berlin.valid_from)
    assert paris.superseded_by == berlin.fact_id


async def test_details_are_merged_and_repetitions_ignored(stores):
    await _remember(stores, NewFact("I live in Paris", metadata={"a": "1"}))
    merged = await _remember(
        stores, NewFact("I live in Paris with my wife", kind=FactKind.PROFILE, metadata={"b": "2"})
    )
    assert merged == [("I live in Paris with my wife", "MERGED")]
    assert await _remember(stores, "I live in Paris", "The user lives in Paris with my wife!") == [
        ("I live in Paris with my wife", "IGNORED"),
        ("I live in Paris with my wife", "IGNORED"),
    ]
    (fact,) = await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)
    assert (fact.version, fact.kind, fact.metadata) == (2, FactKind.PROFILE, {"a": "1", "b": "2"})


async def test_statements_given_together_are_compared_with_each_other(stores):
    await _remember(stores, "I live in Rome")
    stores.clock.move(days=1)
    done = await _remember(
        stores, "I live in Paris", "I live in Paris.", "I moved to Berlin", "I like tea"
    )
    assert [action for _, action in done] == ["SUPERSEDED", "IGNORED", "SUPERSEDED", "ADDED"]
    assert await _held(stores) == ["I like tea", "I moved to Berlin"]


async def test_a_batch_sees_what_its_earlier_statements_changed(stores):
    await _remember(stores, "I live in Rome")
    stores.clock.move(days=1)
    done = await _remember(stores, "I live in Rome with Eve", "I live in Rome", "I moved to Berlin")
    assert [action for _, action in done] == ["MERGED", "IGNORED", "SUPERSEDED"]
    assert await _held(stores) == ["I moved to Berlin"]
    stores.clock.move(days=1)
    back = await _remember(stores, "I live in Oslo", "I live in Rome")
    assert [action for _, action in back] == ["SUPERSEDED", "SUPERSEDED"]
    assert await _held(stores) == ["I live in Rome"]


async def test_a_judge_decides_on_what_resembles_something_held(stores):
    await _remember(stores, "Drinks green tea", "Rides a bicycle")

    def decide(compared):
        return Judgement(FactAction.MERGED, compared.candidates[:1], "Drinks tea of all kinds")

    judge = ScriptedJudge(decide)
    done = await _remember(stores, "Drinks black tea", judge=judge)
    assert done == [("Drinks tea of all kinds", "MERGED")]
    assert await _remember(stores, "drinks tea of ALL kinds", judge=judge) == [
        ("Drinks tea of all kinds", "IGNORED")
    ]
    assert len(judge.asked) == 1, "equal words need no judge"
    assert await _held(stores) == ["Drinks tea of all kinds", "Rides a bicycle"]


@pytest.mark.parametrize(
    "failure", [Unavailable(Reason.MODEL_UNAVAILABLE, "down"), BadModelAnswer("nonsense")]
)
async def test_without_its_judge_a_fact_given_is_compared_by_rules_and_one_found_waits(
    stores, failure
):
    def fail(compared):
        raise failure

    await _remember(stores, "I live in Paris")
    with pytest.raises(type(failure)):
        await _remember(stores, "I live in Berlin", judge=ScriptedJudge(fail))
    assert await _held(stores) == ["I live in Paris"]
    stores.clock.move(days=1)
    await _remember(stores, "I live in Berlin", judge=ScriptedJudge(fail), may_go_by_rules=True)
    assert await _held(stores) == ["I live in Berlin"]


async def test_what_was_compared_with_and_changed_meanwhile_is_compared_again(stores, other):
    await _remember(stores, "Drinks green tea")
    (held,) = await stores.facts.same_facts(ADA, "drinks green tea")
    rounds = []

    async def judge_slowly(compared):
        rounds.append(compared)
        if len(rounds) == 1:
            await other.facts.update_fact(ADA, held.fact_id, {"text": "Drinks white tea"})
        return tuple(Judgement(FactAction.SUPERSEDED, c.candidates[:1]) for c in compared)

    judge = ScriptedJudge(None)
    judge.judge = judge_slowly
    await _remember(stores, "Drinks black tea", judge=judge)
    assert [c[0].candidates[0].text for c in rounds] == ["Drinks green tea", "Drinks white tea"]
    assert await _held(stores) == ["Drinks black tea"]


async def test_a_fact_added_meanwhile_on_the_same_topic_is_compared_too(stores, other):
    await _remember(stores, "Drinks green tea", "Owns a boat")
    rounds = []

    async def judge(compared):
        rounds.append(sorted(f.text for f in compared[0].candidates))
        if len(rounds) == 1:
            await other.facts.remember(ADA, [NewFact("Drinks iced tea"), NewFact("Sails")], None)
        return tuple(Judgement(FactAction.ADDED) for _ in compared)

    scripted = ScriptedJudge(None)
    scripted.judge = judge
    await _remember(stores, "Drinks black tea", judge=scripted)
    assert len(rounds) == 2
    assert "Drinks iced tea" in rounds[1]


async def test_a_plan_that_never_fits_is_given_up(stores):
    async def save(plan):
        raise FactsChanged

    with pytest.raises(Aborted):
        await _reconciler(stores).apply(ADA, [], save)


async def test_writers_of_one_fact_make_one(stores, other):
    done = await asyncio.gather(
        *(
            _remember((stores, other)[n % 2], f"I live in {'Paris' if n % 3 else 'paris.'}")
            for n in range(32)
        )
    )
    assert sorted(action for ((_, action),) in done) == ["ADDED"] + ["IGNORED"] * 31
    assert len(await _held(stores)) == 1


async def test_writers_of_contradictions_leave_one_that_holds(stores, other):
    towns = [f"Town{n}" for n in range(6)]
    await asyncio.gather(
        *(_remember((stores, other)[n % 2], f"I live in {t}") for n, t in enumerate(towns))
    )
    assert len(await _held(stores)) == 1
    assert len(await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)) == 6


async def test_a_superseded_fact_has_no_vector_and_is_found_nowhere(stores, other):
    await _remember(stores, "I live in Paris")
    indexes = [ExactIndex(s.source, WordEmbedder()) for s in (stores, other)]
    task = await stores.queue.lease_embedding("words", 9)
    embedder = WordEmbedder()
    await stores.queue.complete_embedding(task, "words", await embedder.embed(["I live in Paris"]))

    async def found(index) -> list[str]:
        result = await index.search(
            ADA, "live in Paris", kinds=frozenset({MemoryKind.FACT}), filter=RecallFilter(), limit=9
        )
        return [ranked.item_id for ranked in result.ranked]

    (paris,) = await stores.facts.same_facts(ADA, "I live in Paris")
    for index in indexes:
        assert await found(index) == [paris.fact_id]
    stores.clock.move(days=1)
    await _remember(stores, "I live in Berlin")
    for index in indexes:
        assert paris.fact_id not in await found(index)
    rows = await stores.rows("SELECT vector, vector_model FROM facts")
    assert rows
    assert all(tuple(row) == (None, None) for row in rows)
    waiting = await stores.rows("SELECT item_id FROM pending_vectors")
    assert paris.fact_id not in [row[0] for row in waiting]


class ScriptedExtractor:
    """Finds what it is told to."""

    extraction_model = "scripted"

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.read: list[list[str]] = []

    async def extract(self, messages):
        self.read.append([m.text for m in messages])
        first = messages[0]
        return tuple(ExtractedFact(text, 0.9, (first.sequence,), first.time) for text in self.texts)


class CrashingFacts:
    """The store of facts of a process that dies when it is about to save, or just after."""

    def __init__(self, facts, *, saves: bool) -> None:
        self._facts = facts
        self._saves = saves

    def __getattr__(self, name: str):
        return getattr(self._facts, name)

    async def save_extracted(self, *args, **kwargs):
        if self._saves:
            await self._facts.save_extracted(*args, **kwargs)
        raise ConnectionAbortedError


@pytest.mark.parametrize("saves", [False, True])
async def test_a_crash_around_saving_loses_nothing_and_stores_nothing_twice(stores, other, saves):
    await stores.session()
    await stores.append(*(f"message {n}" for n in range(10)))
    stores.clock.move(minutes=1)
    job = await stores.jobs.lease_job([JobKind.EXTRACT])
    assert isinstance(job, Job)

    def extraction(at: Stores, facts) -> Extraction:
        found = ScriptedExtractor("I live in Paris", "I like tea")
        return Extraction(at.sessions, facts, _reconciler(at), found, at.policy, at.clock)

    with pytest.raises(ConnectionAbortedError):
        await extraction(stores, CrashingFacts(stores.facts, saves=saves)).run(job)
    stores.clock.move(minutes=1)
    again = await other.jobs.lease_job([JobKind.EXTRACT])
    assert again is not None, "the lease of the dead has passed"
    await extraction(other, other.facts).run(again)
    await other.jobs.finish_job(again)
    assert await _held(stores) == ["I like tea", "I live in Paris"]
    assert (await stores.sessions.get_session(ADA, "s")).extracted_through == 10
    every = await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)
    assert [fact.version for fact in every] == [1, 1]


async def test_sessions_that_say_the_same_are_both_its_sources(stores):
    for name in ("s", "t"):
        await stores.session(name)
        await stores.append("I live in Paris", session_id=name)
        found = ScriptedExtractor("I live in Paris")
        extraction = Extraction(
            stores.sessions, stores.facts, _reconciler(stores), found, stores.policy, stores.clock
        )
        await extraction.extract(ADA, name, dry_run=False)
    (fact,) = await stores.facts.list_facts(ADA, limit=9, after=None, valid_only=False)
    assert [s.session_id for s in fact.sources] == ["s", "t"]
    assert fact.version == 1
    await stores.sessions.delete_session(ADA, "s")
    assert await _held(stores) == ["I live in Paris"]
    await stores.sessions.delete_session(ADA, "t")
    assert await _held(stores) == []


async def test_a_fact_given_directly_outlives_the_sessions_that_say_it_too(stores):
    for given_first in (True, False):
        text = f"I own {given_first} boats"
        await stores.session()
        await stores.append(text)
        extraction = Extraction(
            stores.sessions,
            stores.facts,
            _reconciler(stores),
            ScriptedExtractor(text),
            stores.policy,
            stores.clock,
        )
        if given_first:
            await stores.facts.remember(ADA, [NewFact(text)], None)
        await extraction.extract(ADA, "s", dry_run=False)
        if not given_first:
            await stores.facts.remember(ADA, [NewFact(text)], None)
        await stores.sessions.delete_session(ADA, "s")
        assert text in await _held(stores)
