"""While a model's API fails, writes go on and background work waits; then the work is done."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.faults.api import HEALTHY, SUMMARY, Api, Fixtures
from tests.faults.deployment import ENVIRONMENT, RECENT
from tests.harness import RunningServer, eventually, unique

from recollect import Recollect
from recollect.v1 import admin_pb2

MESSAGES = 4 * RECENT
SECONDS = 120.0
SLOW_SECONDS = 5.0


def _always(response: dict[str, Any], **more: Any) -> Fixtures:
    return [{"match": {"userMessage": "<"}, "response": response, **more}]


def _failing(status: int, kind: str) -> Fixtures:
    return _always({"error": {"message": "no", "type": kind}, "status": status})


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(tmp_path_factory.mktemp("api"))
    yield made
    made.down()


@pytest.fixture(scope="module")
def anthropic(api: Api) -> Iterator[RunningServer]:
    """A server whose summaries, facts and titles are a model's."""
    environment = ENVIRONMENT | {"ANTHROPIC_API_KEY": "test"}
    with RunningServer("--anthropic-base-url", api.url, environment=environment) as running:
        yield running


def _write(client: Recollect) -> str:
    """Append one message after the other, faster than a slow model, and return their session."""
    session = client.memory.create_session().session_id
    for number in range(MESSAGES):
        began = time.monotonic()
        client.memory.append_messages(session, [f"message {number} about the garden"])
        assert time.monotonic() - began < SLOW_SECONDS
    listed = [m.parts[0].text for m in client.memory.list_messages(session)]
    assert listed == [f"message {number} about the garden" for number in range(MESSAGES)]
    return session


def _jobs(client: Recollect, session: str) -> list[admin_pb2.Job]:
    return [job for job in client.admin.list_jobs() if job.session_id == session]


def _waiting(client: Recollect, session: str) -> list[admin_pb2.Job]:
    """Return the session's jobs that have failed, its summary among them, or nothing yet."""
    failed = [job for job in _jobs(client, session) if job.last_error]
    return failed if any(job.kind == "summarize" for job in failed) else []


def _is_done(client: Recollect, session: str) -> bool:
    found = client.memory.get_session(session)
    episodes = [e for e in client.memory.list_episodes() if e.session_id == session]
    covered = sum(e.last_sequence - e.first_sequence + 1 for e in episodes)
    jobs = _jobs(client, session)
    assert not [job for job in jobs if job.state == admin_pb2.JOB_STATE_DEAD]
    return found.summary.text == SUMMARY and covered == MESSAGES and not jobs


@pytest.mark.parametrize(
    "fixtures",
    [None, _failing(529, "overloaded_error"), _failing(500, "api_error")],
    ids=["refused", "529", "500"],
)
def test_an_outage_of_the_model_costs_no_write_and_no_attempt_and_its_work_is_done_afterwards(
    api, anthropic, fixtures
):
    with anthropic.client(unique("ada")) as client:
        api.down() if fixtures is None else api.answer(fixtures)
        session = _write(client)
        waiting = eventually(lambda: _waiting(client, session), SECONDS)
        assert {job.attempts for job in waiting} == {0}
        assert {job.state for job in waiting} <= {
            admin_pb2.JOB_STATE_DUE,
            admin_pb2.JOB_STATE_RUNNING,
        }
        api.answer(HEALTHY)
        eventually(lambda: _is_done(client, session), SECONDS)


def test_an_empty_answer_is_an_attempt_and_is_never_stored(api, anthropic):
    with anthropic.client(unique("ada")) as client:
        api.answer(_always({"content": ""}))
        session = _write(client)
        waiting = eventually(lambda: _waiting(client, session), SECONDS)
        assert all(job.attempts > 0 for job in waiting)
        assert not client.memory.get_session(session).HasField("summary")
        api.answer(HEALTHY)
        eventually(lambda: _is_done(client, session), SECONDS)


def test_a_slow_model_delays_no_write(api, anthropic):
    chunk = 4
    pause = int(SLOW_SECONDS * 1000 * chunk / len(SUMMARY))
    with anthropic.client(unique("ada")) as client:
        api.answer([fixture | {"chunkSize": chunk, "latency": pause} for fixture in HEALTHY])
        session = _write(client)
        assert _jobs(client, session)
        eventually(lambda: _is_done(client, session), SECONDS)
