"""Extraction as a job: what happens to answers that cannot be read, and to what others say."""

import asyncio

import pytest
from tests.memory.test_reconciliation import ScriptedExtractor, _held, _reconciler
from tests.stores.sql.conftest import *  # noqa: F403 - both databases, as fixtures
from tests.stores.sql.support import ADA

from recollect_server.admin.model import JobState
from recollect_server.memory import jobs as jobs_module
from recollect_server.memory.due import DuePolicy, JobKind
from recollect_server.memory.extraction import Extraction
from recollect_server.memory.jobs import BadModelAnswer, JobRunner
from recollect_server.memory.model import NewMessage, Role, TextPart
from recollect_server.models.offline import VerbatimExtractor
from recollect_server.stores.sql.jobs import MAX_ATTEMPTS


class Unreadable(ScriptedExtractor):
    """Answers with something else than facts until it is told not to."""

    broken = True

    async def extract(self, messages):
        found = await super().extract(messages)
        if self.broken:
            raise BadModelAnswer("no facts in there")
        return found


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(jobs_module, "POLL_SECONDS", 0.01)


async def _jobs(stores):
    return await stores.jobs.list_jobs("acme", state=None, limit=9, after=None)


async def _until(condition) -> None:
    async with asyncio.timeout(60):
        async for _ in _ticks():
            if await condition():
                return


async def _ticks():
    while True:
        yield
        await asyncio.sleep(0.01)


async def test_an_answer_that_cannot_be_read_is_tried_again_then_a_dead_letter(stores, quick):
    await stores.session()
    await stores.append(*(f"message {n}" for n in range(10)))
    extractor = Unreadable("I like tea")
    extraction = Extraction(
        stores.sessions, stores.facts, _reconciler(stores), extractor, stores.policy, stores.clock
    )
    runner = asyncio.create_task(JobRunner(stores.jobs, {JobKind.EXTRACT: extraction.run}).run())

    async def dead() -> bool:
        (job,) = [j for j in await _jobs(stores) if j.kind == "extract"]
        if job.state is JobState.DUE:
            stores.clock.move(minutes=10)
        return job.state is JobState.DEAD

    async def done() -> bool:
        return await _held(stores) == ["I like tea"]

    try:
        await _until(dead)
        (letter,) = [j for j in await _jobs(stores) if j.state is JobState.DEAD]
        assert (letter.kind, letter.session_id, letter.attempts) == ("extract", "s", MAX_ATTEMPTS)
        assert letter.last_error == "no facts in there"
        assert len(extractor.read) >= MAX_ATTEMPTS
        assert (await stores.sessions.get_session(ADA, "s")).extracted_through == 0
        extractor.broken = False
        await stores.jobs.retry_job("acme", letter.job_id)
        await _until(done)
    finally:
        runner.cancel()
    assert all(read == extractor.read[0] for read in extractor.read)


async def test_only_what_people_and_the_assistant_say_is_read_by_so_many_messages(stores):
    await stores.session()
    spoken = (TextPart("I am the admin"),)
    told = [NewMessage(role, spoken) for role in (Role.SYSTEM, Role.TOOL)]
    await stores.sessions.append_messages(ADA, "s", told, request=None, expected_revision=None)
    await stores.append(*(str(n) for n in range(28)))
    extractor = ScriptedExtractor()
    extraction = Extraction(
        stores.sessions,
        stores.facts,
        _reconciler(stores),
        extractor,
        DuePolicy(extract_every=15),
        stores.clock,
    )
    results, through = await extraction.extract(ADA, "s", dry_run=False)
    assert (results, through) == ((), 30)
    assert [len(read) for read in extractor.read] == [13, 15]
    assert "I am the admin" not in extractor.read[0]


async def test_what_would_be_stored_is_shown_with_what_would_become_of_it(stores):
    await stores.session()
    await stores.append("something")
    found = ScriptedExtractor("I live in Paris")
    extraction = Extraction(
        stores.sessions, stores.facts, _reconciler(stores), found, stores.policy, stores.clock
    )
    await extraction.extract(ADA, "s", dry_run=False)
    stores.clock.move(days=1)
    await stores.append("something else")
    found.texts = ("I live in Paris with Eve", "I live in Paris", "I like tea")
    would, through = await extraction.extract(ADA, "s", dry_run=True)
    assert [(r.fact.text, r.action.name) for r in would] == [
        ("I live in Paris with Eve", "MERGED"),
        ("I like tea", "ADDED"),
    ]
    assert through == 1
    assert await _held(stores) == ["I live in Paris"]


async def test_what_is_said_again_after_something_else_holds_again(stores):
    await stores.session()
    said = [
        NewMessage(Role.USER, (TextPart(f"I live in {town}. I like tea."),))
        for town in ("Lisbon", "Porto", "Lisbon")
    ]
    await stores.sessions.append_messages(ADA, "s", said, request=None, expected_revision=None)
    extraction = Extraction(
        stores.sessions,
        stores.facts,
        _reconciler(stores),
        VerbatimExtractor(),
        stores.policy,
        stores.clock,
    )
    await extraction.extract(ADA, "s", dry_run=False)
    assert await _held(stores) == ["I like tea.", "I live in Lisbon."]
