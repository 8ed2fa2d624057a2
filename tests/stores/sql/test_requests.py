"""A write that a repeat would do twice, or refuse because it is done, is done once a request."""

from datetime import timedelta

import pytest
from tests.stores.sql.support import ADA, Stores, message, request

from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.model import Grants, KeyRole
from recollect_server.errors import (
    FailedPrecondition,
    NotFound,
    Reason,
    RevisionMismatch,
    Unauthenticated,
)
from recollect_server.memory.model import NewFact
from recollect_server.scope import RequestKey

TITLE = {"title": "new"}
TEXT = {"text": "y"}


async def _job(stores: Stores) -> str:
    jobs = await stores.jobs.list_jobs("acme", state=None, limit=9, after=None)
    return next(job.job_id for job in jobs if job.session_id == "s")


WRITES = {
    "update_session": lambda s, key: s.sessions.update_session(ADA, "s", TITLE, 2, key),
    "clear_session": lambda s, key: s.sessions.clear_session(ADA, "s", key),
    "delete_session": lambda s, key: s.sessions.delete_session(ADA, "s", key),
    "update_fact": lambda s, key: s.facts.update_fact(ADA, "f", TEXT, 1, key),
    "forget_fact": lambda s, key: s.facts.forget_fact(ADA, "f", key),
}


@pytest.fixture
async def filled(stores):
    await stores.session()
    await stores.append("a", "b")
    await stores.facts.remember(ADA, [NewFact("x", "f")], None)
    return stores


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_repeat_changes_nothing_and_gets_the_first_answer(filled, write):
    first = await write(filled, request("r", "M"))
    revision = await filled.source.user_revision(ADA)
    filled.clock.move(hours=23)
    assert await write(filled, request("r", "M")) == first
    assert await filled.source.user_revision(ADA) == revision


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_another_request_under_the_id_is_refused(filled, write):
    await write(filled, request("r", "M"))
    with pytest.raises(FailedPrecondition) as caught:
        await write(filled, request("r", "M", digest=b"other"))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_another_id_is_another_request(filled, write):
    await write(filled, request("r", "M"))
    revision = await filled.source.user_revision(ADA)
    try:
        await write(filled, request("q", "M"))
    except (NotFound, RevisionMismatch):
        assert await filled.source.user_revision(ADA) == revision
    else:
        assert await filled.source.user_revision(ADA) > revision


async def test_a_repeat_shows_the_session_as_it_was_until_it_is_deleted(filled):
    key = request("r", "UpdateSession")
    first = await filled.sessions.update_session(ADA, "s", TITLE, None, key)
    await filled.sessions.update_session(ADA, "s", {"title": "newer"}, None)
    await filled.append("c")
    assert await filled.sessions.update_session(ADA, "s", TITLE, None, key) == first
    await filled.sessions.delete_session(ADA, "s")
    await filled.session()
    with pytest.raises(NotFound):
        await filled.sessions.update_session(ADA, "s", TITLE, None, key)
    assert (await filled.sessions.get_session(ADA, "s")).title == ""


async def test_a_request_that_failed_can_be_made_again(filled):
    key = request("r", "UpdateFact")
    with pytest.raises(RevisionMismatch):
        await filled.facts.update_fact(ADA, "f", TEXT, 2, key)
    assert (await filled.facts.update_fact(ADA, "f", TEXT, 1, key)).version == 2


async def test_what_a_request_did_is_kept_without_what_was_said(filled):
    key = request("r", "UpdateSession")
    await filled.sessions.update_session(ADA, "s", {"title": "my secret"}, None, key)
    await filled.sessions.append_messages(
        ADA, "s", [message("my secret")], request=request("q"), expected_revision=None
    )
    for (result,) in await filled.rows("SELECT result FROM requests"):
        assert b"secret" not in bytes(result)


async def test_a_job_is_retried_once(filled):
    await filled.sessions.clear_session(ADA, "s")
    job, key = await _job(filled), request("r", "RetryJob")
    first = await filled.jobs.retry_job("acme", job, key)
    assert await filled.jobs.retry_job("acme", job, key) == first
    await filled.sessions.delete_session(ADA, "s")
    again = await filled.jobs.retry_job("acme", job, key)
    assert (again.job_id, again.state, again.run_time) == (job, first.state, first.run_time)
    with pytest.raises(NotFound):
        await filled.jobs.retry_job("acme", job, request("q", "RetryJob"))


async def _make(keys: ApiKeys, key: RequestKey | None, name: str = "n"):
    return await keys.create("acme", name=name, grants=Grants(KeyRole.READER), request=key)


async def test_a_repeated_request_gives_the_one_key_a_secret_that_is_valid(stores):
    keys, key = ApiKeys(stores.keys, stores.clock), request("r", "CreateApiKey")
    lost = await _make(keys, key)
    await keys.authenticate(lost.token)
    stores.clock.move(seconds=1)
    again = await _make(keys, key)
    assert again.key == lost.key
    assert (await keys.authenticate(again.token)) == lost.key
    with pytest.raises(Unauthenticated):
        await keys.authenticate(lost.token)
    assert len(await keys.list("acme", limit=9, after=None)) == 1
    with pytest.raises(FailedPrecondition):
        await _make(keys, request("r", "CreateApiKey", digest=b"other"))
    await _make(keys, None)
    assert len(await keys.list("acme", limit=9, after=None)) == 2


async def test_no_secret_is_kept_with_a_request(stores):
    keys, key = ApiKeys(stores.keys, stores.clock), request("r", "CreateApiKey")
    token = (await _make(keys, key)).token
    secret = token.rpartition("_")[2].encode()
    ((result,),) = await stores.rows("SELECT result FROM requests")
    assert secret not in bytes(result)
    stores.clock.now += timedelta(hours=25)
    assert (await _make(keys, key)).key.key_id not in token
