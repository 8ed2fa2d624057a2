"""Ids and texts of callers, planted everywhere, are in no metric, log, trace or error text."""

import json

import pytest
from tests.harness import eventually
from tests.observability.collector import Scrape

from recollect import errors

USER, SESSION, TEXT = "user-quetzal-31", "session-ocelot-47", "axolotl-passport-59"
MARKERS = (USER, SESSION, TEXT)


@pytest.fixture(scope="module")
def said(server) -> list[str]:
    """Plant the markers in every kind of call; return the texts of the errors."""
    texts = []

    def failing(call, *arguments, **more) -> None:
        with pytest.raises(errors.RecollectError) as caught:
            call(*arguments, **more)
        texts.append(str(caught.value))

    with server.client(USER) as client:
        memory, chat = client.memory, client.chat
        memory.create_session(session_id=SESSION, metadata={"key": TEXT})
        memory.append_messages(SESSION, [f"{TEXT} {n}" for n in range(14)])
        memory.remember([f"My passport is {TEXT}."])
        memory.recall(f"what of {TEXT}?")
        for _ in range(2):
            chat.send(SESSION, f"Hello, {TEXT}")
        eventually(lambda: memory.get_session(SESSION).HasField("summary"))
        failing(memory.create_session, session_id=SESSION)
        failing(memory.append_messages, "none", [TEXT])
        failing(memory.append_messages, SESSION, [TEXT * 100_000])
        failing(memory.append_messages, SESSION, [TEXT], expected_revision=1)
        failing(memory.recall, TEXT, top_k=100_000)
        failing(chat.send, SESSION, f"busy {TEXT}", timeout=60)
        memory.delete_session(SESSION)
    return texts


def test_metrics_hold_none(said, metrics):
    for exemplars in (False, True):
        text = Scrape(metrics, exemplars=exemplars).text
        assert "recollect_model_tokens_total" in text
        assert [marker for marker in MARKERS if marker in text] == []


def test_logs_hold_none_and_name_the_call(said, server):
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    calls = [line for line in lines if line["event"] == "call"]
    assert len(calls) > 10
    for call in calls:
        assert call["call_id"]
        assert len(call["tenant"]) == 12
        assert len(call.get("trace_id", "0" * 32)) == 32
    assert sum("trace_id" in call for call in calls) > 10
    assert [marker for marker in MARKERS if marker in server.log] == []


def test_traces_hold_none(said, collector):
    eventually(lambda: [s for s in collector.spans() if s.name.endswith("/DeleteSession")])
    sent = b"".join(collector.received)
    assert [marker for marker in MARKERS if marker.encode() in sent] == []


def test_error_texts_hold_neither_texts_nor_users(said):
    assert len(said) == 6
    for text in said:
        assert USER not in text
        assert TEXT not in text
