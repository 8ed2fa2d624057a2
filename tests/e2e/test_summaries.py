"""Rolling summaries as a client sees them: offline, by a model, and while that model fails."""

import json
import sqlite3
from contextlib import closing

import pytest
from tests.harness import RunningServer, eventually, unique
from tests.mocks.llm import MockLlm

from recollect import assistant, errors, user
from recollect.v1 import admin_pb2, memory_pb2

RECENT = 6
WINDOW = 20
GOOD = [
    {"match": {"userMessage": "<messages>"}, "response": {"content": "They plan a trip to Rome."}},
    {"match": {"userMessage": "<summary>"}, "response": {"content": "A trip"}},
]


@pytest.fixture
def client(server):
    with server.client(unique("ada")) as opened:
        yield opened


def _talk(client, session: str, count: int, start: int = 1) -> list[str]:
    texts = [f"Sentence {n} is about the harbour of town {n}." for n in range(start, start + count)]
    turns = [(user, assistant)[n % 2](text) for n, text in enumerate(texts)]
    client.memory.append_messages(session, turns)
    return texts


def _summary(client, session: str) -> memory_pb2.Summary:
    return client.memory.get_session(session).summary


def _summarised(client, session: str, through: int) -> memory_pb2.Summary:
    eventually(lambda: _summary(client, session).through_sequence >= through, 40)
    return _summary(client, session)


def _context(client, session: str, profile, **more) -> tuple[str, list[str]]:
    options = memory_pb2.ContextOptions(profile=profile, max_facts=0, max_turns=0, **more)
    context = client.memory.get_context(session, options=options)
    return context.system, [message.parts[0].text for message in context.messages]


def test_all_but_the_newest_messages_are_summarised_and_context_goes_on_from_there(client):
    session = client.memory.create_session().session_id
    texts = _talk(client, session, 12)
    assert not client.memory.get_session(session).HasField("summary")
    texts += _talk(client, session, 1, 13)
    summary = _summarised(client, session, 1)
    assert (summary.through_sequence, summary.model) == (13 - RECENT, "extractive")
    assert "harbour" in summary.text
    texts += _talk(client, session, 12, 14)
    summary = _summarised(client, session, 25 - RECENT)
    for profile in (memory_pb2.CONTEXT_PROFILE_SUMMARY, memory_pb2.CONTEXT_PROFILE_FULL):
        system, shown = _context(client, session, profile, max_episodes=0)
        assert summary.text.splitlines()[0] in system
        assert shown == texts[summary.through_sequence :]
    for profile in (memory_pb2.CONTEXT_PROFILE_BUFFER, memory_pb2.CONTEXT_PROFILE_LONG_TERM):
        assert _context(client, session, profile) == ("", texts[-WINDOW:])
    off = memory_pb2.CONTEXT_PROFILE_FULL
    assert _context(client, session, off, summary=False, max_episodes=0) == ("", texts[-WINDOW:])


def test_a_long_conversation_of_few_messages_is_summarised_too(client):
    session = client.memory.create_session().session_id
    client.memory.append_messages(session, ["Many words about the sea. " * 100] * 8)
    assert _summarised(client, session, 1).through_sequence == 8 - RECENT


def test_clearing_drops_the_summary_and_the_next_one_covers_only_what_came_after(client):
    session = client.memory.create_session().session_id
    _talk(client, session, 13)
    _summarised(client, session, 1)
    assert not client.memory.clear_session(session).HasField("summary")
    client.memory.append_messages(session, ["A violin was sold."] * 13)
    summary = _summarised(client, session, 26 - RECENT)
    assert "violin" in summary.text
    assert "harbour" not in summary.text


def test_compaction_summarises_now_and_leaves_the_newest_alone(client):
    session = client.memory.create_session().session_id
    _talk(client, session, RECENT)
    assert not client.memory.compact_session(session).HasField("summary")
    _talk(client, session, 3, 7)
    compacted = client.memory.compact_session(session)
    assert compacted.summary.through_sequence == 3
    assert compacted == client.memory.get_session(session)
    assert client.memory.compact_session(session) == compacted
    with pytest.raises(errors.NotFound):
        client.memory.compact_session("nowhere")


def test_messages_without_words_are_summarised_as_well(client):
    session = client.memory.create_session().session_id
    client.memory.append_messages(session, [" "] * 13)
    assert _summarised(client, session, 1).text


class Provider:
    """A mock of the Anthropic API that can be taught other answers."""

    def __init__(self, folder) -> None:
        self._file = folder / "fixtures.json"
        self.mock = MockLlm(folder, GOOD)
        self.mock.start()

    def answers(self, fixtures) -> None:
        self.mock.stop()
        self._file.write_text(json.dumps({"fixtures": fixtures}))
        self.mock.start()


@pytest.fixture
def provider(tmp_path):
    made = Provider(tmp_path)
    yield made
    made.mock.stop()


@pytest.fixture
def served(provider):
    environment = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": provider.mock.url}
    with RunningServer(environment=environment) as running:
        yield running


@pytest.fixture
def ada(served):
    with served.client("ada") as opened:
        opened.memory.create_session(session_id="s")
        yield opened


def _jobs(client, kind: str = "summarize") -> list[admin_pb2.Job]:
    return [job for job in client.admin.list_jobs() if job.kind == kind]


def _answer(content: str, **more) -> list[dict]:
    return [{"match": {"userMessage": "<messages>"}, "response": {"content": content, **more}}]


FAILURES = {
    "refuses": _answer("I cannot", finishReason="refusal"),
    "says nothing": _answer(" "),
    "rejects": [
        {
            "match": {"userMessage": "<messages>"},
            "response": {
                "error": {"message": "no", "type": "invalid_request_error"},
                "status": 400,
            },
        }
    ],
}


def test_the_model_summarises_when_there_is_one(ada):
    _talk(ada, "s", 13)
    summary = _summarised(ada, "s", 1)
    assert summary.text == "They plan a trip to Rome."
    assert summary.model.startswith("claude-haiku")
    assert not _jobs(ada)


@pytest.mark.parametrize("fixtures", FAILURES.values(), ids=FAILURES)
def test_what_the_model_answers_wrongly_becomes_a_dead_letter_that_can_be_revived(
    provider, served, ada, fixtures
):
    provider.answers(fixtures)
    _talk(ada, "s", 13)
    with pytest.raises((errors.FailedPrecondition, errors.InvalidArgument)) as caught:
        ada.memory.compact_session("s")
    assert caught.value.reason in ("MODEL_REFUSED", "MODEL_REJECTED")
    eventually(lambda: [job for job in _jobs(ada) if job.last_error])
    with closing(sqlite3.connect(served.data_dir / "recollect.db")) as database, database:
        database.execute("UPDATE jobs SET attempts = 9")
    eventually(lambda: _jobs(ada)[0].state == admin_pb2.JOB_STATE_DEAD, 30)
    ada.memory.create_session(session_id="t")
    _talk(ada, "t", 13)
    listed = eventually(lambda: len(found := _jobs(ada)) == 2 and found)
    assert [job.session_id for job in listed] == ["s", "t"]
    dead = [*ada.admin.list_jobs(state=admin_pb2.JOB_STATE_DEAD)]
    assert [(job.user_id, job.session_id, job.attempts) for job in dead] == [("ada", "s", 10)]
    assert dead[0].last_error
    assert not _summary(ada, "s").text
    provider.answers(GOOD)
    assert ada.admin.retry_job(dead[0].job_id).state != admin_pb2.JOB_STATE_DEAD
    assert _summarised(ada, "s", 1).text == "They plan a trip to Rome."
    eventually(lambda: not _jobs(ada), 30)


def test_while_the_model_is_down_writes_succeed_and_the_summary_follows(provider, ada):
    provider.mock.stop()
    _talk(ada, "s", 13)
    waiting = eventually(lambda: [job for job in _jobs(ada) if job.last_error], 30)
    assert (waiting[0].attempts, waiting[0].state) != (10, admin_pb2.JOB_STATE_DEAD)
    with pytest.raises(errors.Unavailable):
        ada.memory.compact_session("s")
    _talk(ada, "s", 5, 14)
    provider.mock.start()
    assert _summarised(ada, "s", 13 - RECENT).text
    eventually(lambda: not _jobs(ada))


def test_a_slow_model_holds_nothing_up(provider, ada):
    provider.answers([{**_answer("word " * 30)[0], "chunkSize": 5, "latency": 100}])
    _talk(ada, "s", 13)
    eventually(lambda: _jobs(ada)[0].state == admin_pb2.JOB_STATE_RUNNING)
    for number in range(20):
        ada.memory.append_messages("s", [f"more {number}"])
        assert ada.memory.get_context("s").messages[-1].parts[0].text == f"more {number}"
    assert not _summary(ada, "s").text
    assert _summarised(ada, "s", 33 - RECENT).text


def test_a_crash_leaves_the_old_or_the_new_summary(provider, served, ada):
    _talk(ada, "s", 13)
    first = _summarised(ada, "s", 1)
    slow = {**_answer("Another " * 10)[0], "chunkSize": 5, "latency": 50}
    provider.answers([slow])
    through = 13
    for _ in range(3):
        _talk(ada, "s", 13, through + 1)
        through += 13
        eventually(lambda: any(job.state == admin_pb2.JOB_STATE_RUNNING for job in _jobs(ada)))
        served.kill()
        served.start()
        found = _summary(ada, "s")
        assert found == first or found.text == ("Another " * 10).strip()
        _, shown = _context(ada, "s", memory_pb2.CONTEXT_PROFILE_SUMMARY)
        assert len(shown) == through - found.through_sequence
    # The last job's lease has to pass.
    assert _summarised(ada, "s", through - RECENT).text == ("Another " * 10).strip()
