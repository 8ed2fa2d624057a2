"""Facts drawn from conversations, as a client sees them: offline and by a model."""

import json

import pytest
from tests.harness import RunningServer, eventually, unique
from tests.mocks.llm import MockLlm

from recollect import assistant, errors
from recollect.v1 import memory_pb2

EVERY = 10


@pytest.fixture
def client(server):
    with server.client(unique("ada")) as opened:
        yield opened


def _texts(client) -> list[str]:
    return sorted(fact.text for fact in client.memory.list_facts())


def test_every_few_messages_are_read_once_and_what_users_say_of_themselves_is_kept(client):
    session = client.memory.create_session().session_id
    for number in range(EVERY - 1):
        client.memory.append_messages(session, [f"I keep {number} bees. Is it many?"])
    client.memory.append_messages(session, [assistant("I live in the cloud.")])
    expected = [f"I keep {number} bees." for number in range(EVERY - 1)]
    eventually(lambda: _texts(client) == expected)
    (fact,) = [f for f in client.memory.list_facts() if f.text == expected[3]]
    assert fact.metadata["extracted_by"] == "verbatim"
    (source,) = fact.sources
    assert (source.session_id, source.first_sequence, source.last_sequence) == (session, 4, 4)
    client.memory.append_messages(session, ["I keep 3 bees. I keep two hens."])
    again = client.memory.extract_facts(session)
    assert [fact.text for fact in again.facts] == ["I keep two hens."], "the other is held already"
    assert list(again.actions) == [memory_pb2.FACT_ACTION_ADDED]
    assert again.through_sequence == EVERY + 1
    assert client.memory.extract_facts(session).facts == []


def test_what_would_be_extracted_can_be_seen_first(client):
    session = client.memory.create_session().session_id
    client.memory.append_messages(session, ["I like figs."])
    shown = client.memory.extract_facts(session, dry_run=True)
    assert ([fact.text for fact in shown.facts], shown.through_sequence) == (["I like figs."], 0)
    assert _texts(client) == []
    assert [f.text for f in client.memory.extract_facts(session).facts] == ["I like figs."]
    with pytest.raises(errors.NotFound):
        client.memory.extract_facts("nowhere")


def test_clearing_a_session_leaves_nothing_unread(client):
    session = client.memory.create_session().session_id
    client.memory.append_messages(session, ["I own a red boat."])
    client.memory.clear_session(session)
    client.memory.append_messages(session, ["I own a cart."])
    assert [fact.text for fact in client.memory.extract_facts(session).facts] == [
        "I own a red boat.",
        "I own a cart.",
    ]


def _found(*facts) -> list[dict]:
    content = "Here: " + json.dumps({"facts": list(facts)})
    return [{"match": {"userMessage": "<messages>"}, "response": {"content": content}}]


def test_a_model_finds_facts_and_a_wrong_answer_stores_nothing_and_is_told(tmp_path):
    good = {"text": "The user lives in Oslo.", "kind": "profile", "confidence": 0.9}
    good["messages"] = [1, 2]
    mock = MockLlm(tmp_path, _found(good))
    mock.start()
    environment = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": mock.url}
    try:
        with RunningServer(environment=environment) as server, server.client("ada") as client:
            session = client.memory.create_session().session_id
            client.memory.append_messages(session, ["I moved", "to Oslo"])
            (fact,) = client.memory.extract_facts(session).facts
            assert (fact.text, fact.confidence) == (good["text"], 0.9)
            assert fact.kind == memory_pb2.FACT_KIND_PROFILE
            assert fact.metadata["extracted_by"].startswith("claude-haiku")
            assert [(s.first_sequence, s.last_sequence) for s in fact.sources] == [(1, 2)]
            mock.stop()
            (tmp_path / "fixtures.json").write_text(
                json.dumps({"fixtures": _found({"text": "no confidence", "messages": [3]})})
            )
            mock.start()
            client.memory.append_messages(session, ["and back"] * EVERY)
            with pytest.raises(errors.FailedPrecondition) as caught:
                client.memory.extract_facts(session)
            assert caught.value.reason == "MODEL_REFUSED"
            job = eventually(lambda: [j for j in client.admin.list_jobs() if j.last_error])[0]
            assert job.kind == "extract"
            assert "confidence" in job.last_error
            assert _texts(client) == [good["text"]]
    finally:
        mock.stop()
