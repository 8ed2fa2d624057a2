"""The outbox of background work: leases, retries, dead letters, lists."""

import asyncio

import numpy as np
import pytest
from tests.stores.sql.support import ADA, Stores

from recollect_server.admin.model import JobState
from recollect_server.errors import NotFound, Reason
from recollect_server.memory.due import JobKind
from recollect_server.memory.jobs import RENEW_SECONDS
from recollect_server.scope import Scope
from recollect_server.stores.sql import jobs

KINDS = (JobKind.SUMMARIZE, JobKind.EPISODE)


async def _with_jobs(stores: Stores, count: int = 1, scope: Scope = ADA) -> None:
    """Make sessions that were cleared, so that each has an episode to make and no other job."""
    for number in range(count):
        await stores.session(f"s{number:03}", scope)
        await stores.append("", session_id=f"s{number:03}", scope=scope)
        await stores.sessions.clear_session(scope, f"s{number:03}")


async def _fail(stores: Stores, times: int) -> None:
    for _ in range(times):
        job = await stores.jobs.lease_job(KINDS)
        await stores.jobs.fail_job(job, "rubbish", waits=False)
        stores.clock.move(seconds=jobs.LONGEST_RETRY_SECONDS * (1 + jobs.JITTER))


async def _list(stores: Stores, tenant="acme", state=None):
    return await stores.jobs.list_jobs(tenant, state=state, limit=500, after=None)


async def test_two_servers_never_lease_the_same_job(stores, other):
    await _with_jobs(stores, 100)

    async def lease_all(on: Stores) -> list[str]:
        found = []
        while job := await on.jobs.lease_job(KINDS):
            found.append(job.session_id)
        return found

    found = await asyncio.gather(*(lease_all(on) for on in (stores, other) * 4))
    leased = [session_id for each in found for session_id in each]
    assert sorted(leased) == [f"s{n:03}" for n in range(100)]


async def test_a_lease_ends_unless_it_is_renewed_and_then_belongs_to_another(stores, other):
    assert 2 * RENEW_SECONDS < jobs.LEASE_SECONDS
    await _with_jobs(stores)
    job = await stores.jobs.lease_job(KINDS)
    for _ in range(10):
        stores.clock.move(seconds=RENEW_SECONDS)
        assert await stores.jobs.renew_job(job)
        assert await other.jobs.lease_job(KINDS) is None
    stores.clock.move(seconds=jobs.LEASE_SECONDS + 1)
    again = await other.jobs.lease_job(KINDS)
    assert (again.job_id, again.attempts) == (job.job_id, 0)
    assert again.lease > job.lease
    assert not await stores.jobs.renew_job(job)
    await stores.jobs.finish_job(job)
    await stores.jobs.fail_job(job, "late", waits=False)
    assert await other.jobs.renew_job(again)
    assert [j.last_error for j in await _list(stores)] == [""]
    await other.jobs.finish_job(again)
    assert await _list(stores) == ()


async def test_a_job_queued_again_while_it_runs_is_run_once_more(stores, other):
    await _with_jobs(stores)
    job = await stores.jobs.lease_job(KINDS)
    await other.append("", session_id="s000")
    await other.sessions.clear_session(ADA, "s000")
    assert await other.jobs.lease_job(KINDS) is None, "it runs only once at a time"
    assert [j.state for j in await _list(stores)] == [JobState.RUNNING]
    await stores.jobs.finish_job(job)
    again = await other.jobs.lease_job(KINDS)
    assert again.session_id == "s000"
    await other.jobs.finish_job(again)
    assert await _list(stores) == ()


async def test_pauses_double_from_the_first_to_the_longest_with_jitter(stores):
    await _with_jobs(stores)
    pauses = []
    for _ in range(jobs.MAX_ATTEMPTS - 1):
        job = await stores.jobs.lease_job(KINDS)
        await stores.jobs.fail_job(job, "rubbish", waits=False)
        (listed,) = await _list(stores)
        pauses.append((listed.run_time - stores.clock()).total_seconds())
        assert await stores.jobs.lease_job(KINDS) is None
        stores.clock.now = listed.run_time
    for attempt, pause in enumerate(pauses):
        base = min(jobs.FIRST_RETRY_SECONDS * 2**attempt, jobs.LONGEST_RETRY_SECONDS)
        assert base * (1 - jobs.JITTER) <= pause <= base * (1 + jobs.JITTER)
    assert len({round(pause / 2**n, 4) for n, pause in enumerate(pauses)}) > 3, "no jitter"


async def test_waiting_uses_no_attempt(stores):
    await _with_jobs(stores)
    for _ in range(3 * jobs.MAX_ATTEMPTS):
        job = await stores.jobs.lease_job(KINDS)
        assert job.attempts == 0
        await stores.jobs.fail_job(job, "model down", waits=True)
        (listed,) = await _list(stores)
        assert (listed.state, listed.attempts) == (JobState.DUE, 0)
        pause = (listed.run_time - stores.clock()).total_seconds()
        assert pause <= jobs.LONGEST_WAIT_SECONDS * (1 + jobs.JITTER)
        stores.clock.now = listed.run_time
    assert await stores.jobs.lease_job(KINDS)


async def test_a_dead_letter_stays_is_listed_first_and_can_be_retried(stores):
    await _with_jobs(stores)
    await _fail(stores, jobs.MAX_ATTEMPTS)
    assert await stores.jobs.lease_job(KINDS) is None
    for number in range(1, 4):
        await stores.session(f"s{number:03}")
        await stores.append("", session_id=f"s{number:03}")
        await stores.sessions.clear_session(ADA, f"s{number:03}")
    running = await stores.jobs.lease_job(KINDS)
    listed = await _list(stores)
    assert [j.state for j in listed][:2] == [JobState.DEAD, JobState.RUNNING]
    assert (listed[0].session_id, listed[0].attempts) == ("s000", jobs.MAX_ATTEMPTS)
    assert listed[0].last_error == "rubbish"
    assert [j.session_id for j in await _list(stores, state=JobState.DEAD)] == ["s000"]
    retried = await stores.jobs.retry_job("acme", listed[0].job_id)
    assert (retried.state, retried.attempts) == (JobState.DUE, 0)
    assert (await stores.jobs.retry_job("acme", running.job_id)).state is JobState.RUNNING
    leased = {(await stores.jobs.lease_job(KINDS)).session_id for _ in range(3)}
    assert "s000" in leased


async def test_new_work_revives_a_dead_letter(stores):
    await _with_jobs(stores)
    await _fail(stores, jobs.MAX_ATTEMPTS)
    await stores.append("", session_id="s000")
    await stores.sessions.clear_session(ADA, "s000")
    job = await stores.jobs.lease_job(KINDS)
    assert (job.session_id, job.attempts) == ("s000", 0)


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_lists_of_jobs_are_paged_within_the_tenant(stores, limit):
    rank = {JobState.DEAD: 0, JobState.RUNNING: 1, JobState.DUE: 2}
    await _with_jobs(stores)
    await _fail(stores, jobs.MAX_ATTEMPTS)
    await _with_jobs(stores, 6, Scope("acme", "bob"))
    await _with_jobs(stores, 3, Scope("other", "eve"))
    await stores.jobs.lease_job(KINDS)
    whole = await _list(stores)
    assert {j.user_id for j in whole} == {"ada", "bob"}
    assert [rank[j.state] for j in whole] == sorted(rank[j.state] for j in whole)
    paged, after = [], None
    while page := await stores.jobs.list_jobs("acme", state=None, limit=limit, after=after):
        paged += page
        after = (rank[page[-1].state], page[-1].job_id)
    assert tuple(paged) == whole
    of_bob = await stores.jobs.list_jobs("acme", state=None, user_id="bob", limit=99, after=None)
    assert of_bob == tuple(job for job in whole if job.user_id == "bob")
    with pytest.raises(NotFound) as caught:
        await stores.jobs.retry_job("other", whole[0].job_id)
    assert caught.value.reason is Reason.JOB_NOT_FOUND


async def test_a_deleted_session_takes_its_job_along(stores):
    await _with_jobs(stores)
    job = await stores.jobs.lease_job(KINDS)
    await stores.sessions.delete_session(ADA, "s000")
    assert not await stores.jobs.renew_job(job)
    await stores.jobs.finish_job(job)
    assert await stores.jobs.lease_job(KINDS) is None


async def test_vectors_are_stored_while_the_user_writes(stores, other):
    """A worker and a server use the same rows; neither may wait for the other for ever."""
    await stores.session()
    writing = asyncio.create_task(_write(stores, 60))
    async with asyncio.timeout(30):
        while not writing.done() or await stores.rows("SELECT 1 FROM pending_vectors"):
            task = await other.queue.lease_embedding("m", 4)
            if task is None:
                await asyncio.sleep(0)
                continue
            vectors = np.eye(len(task.items), 8, dtype=np.float32)
            await other.queue.complete_embedding(task, "m", vectors)
    assert await stores.rows("SELECT COUNT(*) FROM message_vectors") == [(60,)]
    assert await stores.rows("SELECT COUNT(*) FROM jobs WHERE kind = 'embed'") == [(0,)]


async def _write(stores, count):
    for start in range(0, count, 6):
        await asyncio.gather(*(stores.append(str(n)) for n in range(start, start + 6)))
