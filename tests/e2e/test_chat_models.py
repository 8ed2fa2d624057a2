"""Chat over providers that fail, are slow, or are another one; and what never leaves the server."""

import socket
import time
import uuid
from pathlib import Path

import pytest
from tests.harness import RunningServer, unique
from tests.mocks.llm import MockLlm, free_port

from recollect import errors
from recollect.v1 import chat_pb2, memory_pb2

SECRET, PERSONAL = "sk-secret-4f1d", "Zanzibar-passport-77"
FIXTURES = [
    {"match": {"userMessage": "busy"},
     "response": {"error": {"message": PERSONAL, "type": "overloaded_error"}, "status": 529}},
    {"match": {"userMessage": "cut"}, "response": {"content": "word " * 20},
     "chunkSize": 5, "latency": 20, "truncateAfterChunks": 6},
    {"match": {"userMessage": "limited"}, "response": {
        "error": {"message": PERSONAL, "type": "rate_limit_error"}, "status": 429,
        "retryAfter": 30}},
    {"match": {}, "response": {"content": "Here you are."}},
]  # fmt: skip


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory):
    with MockLlm(tmp_path_factory.mktemp("mock"), FIXTURES) as running:
        yield running


def _anthropic(url: str, *flags: str) -> RunningServer:
    return RunningServer(
        "--anthropic-base-url", url, "--log-level", "debug", *flags,
        environment={"ANTHROPIC_API_KEY": SECRET},
    )  # fmt: skip


def _fails(client, session: str, text: str) -> errors.RecollectError:
    with pytest.raises(errors.RecollectError) as caught:
        list(client.chat.stream(session, text))
    return caught.value


def test_outages_keep_the_message_say_when_to_retry_and_leak_nothing(mock):
    with _anthropic(mock.url) as server:
        for text, reason in (
            ("busy", "MODEL_OVERLOADED"),
            ("cut", "MODEL_UNAVAILABLE"),
            ("limited", "MODEL_RATE_LIMITED"),
        ):
            with server.client(unique("ada")) as client:
                session = client.memory.create_session().session_id
                error = _fails(client, session, f"{text} {PERSONAL}")
                assert error.reason == reason
                assert error.retry_after is not None
                assert PERSONAL not in str(error)
                (kept,) = client.memory.list_messages(session)
                assert kept.parts[0].text == f"{text} {PERSONAL}"
        _speaks_of_nobody(server)


def _speaks_of_nobody(server: RunningServer) -> None:
    with server.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        turn = client.chat.send(session, f"hello {PERSONAL}")
        assert turn.reply.parts[0].text == "Here you are."
        client.memory.remember([f"My number is {PERSONAL}"])
        with pytest.raises(errors.NotFound) as caught:
            client.chat.send("no-session", PERSONAL)
        assert PERSONAL not in str(caught.value)
        assert "model call failed" in server.log
        assert SECRET not in server.log
        assert PERSONAL not in server.log


@pytest.mark.parametrize("kind", ["refused", "hanging"])
def test_an_outage_costs_the_first_callers_time_and_the_others_none(kind):
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1] if kind == "hanging" else free_port()
        with (
            _anthropic(f"http://127.0.0.1:{port}", "--model-timeout", "1") as server,
            server.client(unique("ada")) as client,
        ):
            took = []
            for _ in range(12):
                session = client.memory.create_session().session_id
                started = time.monotonic()
                error = _fails(client, session, "hello")
                took.append(time.monotonic() - started)
                assert error.reason == "MODEL_UNAVAILABLE"
                assert error.retry_after is not None
                assert len(list(client.memory.list_messages(session))) == 1
    # The client itself retries what is UNAVAILABLE, so even the first call opens the breaker.
    assert sorted(took)[6] < 4


def test_another_model_answers_when_the_first_one_does_not(mock):
    with (
        RunningServer(
            "--anthropic-base-url", f"http://127.0.0.1:{free_port()}",
            "--openai-base-url", f"{mock.url}/v1", "--chat-fallback", "openai:gpt-4.1-mini",
            environment={"ANTHROPIC_API_KEY": SECRET, "OPENAI_API_KEY": SECRET},
        ) as server,
        server.client(unique("ada")) as client,
    ):  # fmt: skip
        turn = client.chat.send(client.memory.create_session().session_id, "hello")
        assert (turn.model, turn.reply.parts[0].text) == ("gpt-4.1-mini", "Here you are.")


def test_openai_answers_with_the_defaults_of_the_tenant(mock, tmp_path: Path):
    config = tmp_path / "recollect.toml"
    config.write_text(
        '[tenants.default.chat]\nmodel = "gpt-4.1"\nsystem = "Be brief."\ntemperature = 0.25\n'
    )
    text = unique("hello")
    with (
        RunningServer(
            "--config", str(config), "--openai-base-url", f"{mock.url}/v1",
            environment={"OPENAI_API_KEY": SECRET},
        ) as server,
        server.client(unique("ada")) as client,
    ):  # fmt: skip
        assert client.admin.get_server_info().chat_provider == "openai"
        session = client.memory.create_session().session_id
        turn = client.chat.send(session, text)
        assert (turn.model, turn.finish_reason) == ("gpt-4.1", chat_pb2.FINISH_REASON_STOP)
        options = chat_pb2.ChatOptions(model="gpt-5-mini", system="Be long.")
        assert client.chat.send(session, text, options=options).model == "gpt-5-mini"
        bodies = [body for body in mock.requests() if text in str(body["messages"][-1])]
    systems = [body["messages"][0]["content"] for body in bodies]
    assert systems == ["Be brief.", "Be long."]
    assert [body["temperature"] for body in bodies] == [0.25, 0.25]


def _options(profile: memory_pb2.ContextProfile.ValueType) -> chat_pb2.ChatOptions:
    return chat_pb2.ChatOptions(context=memory_pb2.ContextOptions(profile=profile))


def test_profiles_choose_what_the_model_is_shown_and_audit_records_its_calls(server):
    with server.client(unique("ada")) as client:
        client.memory.remember(["Allergic to peanuts"])
        shown = {}
        for profile in (
            memory_pb2.CONTEXT_PROFILE_BUFFER,
            memory_pb2.CONTEXT_PROFILE_LONG_TERM,
            memory_pb2.CONTEXT_PROFILE_AUDIT,
        ):
            session = client.memory.create_session().session_id
            question = f"Am I allergic to peanuts? {uuid.uuid4()}"
            events = list(client.chat.stream(session, question, options=_options(profile)))
            shown[profile] = {item.part for item in events[1].context.items}
            done = events[-1].done.turn
            assert done.timings.first_token.ToMicroseconds() > 0
            assert done.user_message.message_id != done.reply.message_id != ""
        window, fact = memory_pb2.CONTEXT_PART_WINDOW, memory_pb2.CONTEXT_PART_FACT
        assert shown[memory_pb2.CONTEXT_PROFILE_BUFFER] == {window}
        assert fact in shown[memory_pb2.CONTEXT_PROFILE_LONG_TERM]
        assert fact in shown[memory_pb2.CONTEXT_PROFILE_AUDIT]
        recorded = [event.resource for event in client.admin.list_audit_events()]
        assert any(f"turn={done.turn_id} model=" in resource for resource in recorded)
        assert any("fact=" in resource and session in resource for resource in recorded)


def test_a_long_chat_stays_in_its_budget_and_remembers_its_beginning(server):
    options = _options(memory_pb2.CONTEXT_PROFILE_FULL)
    options.context.token_budget = 600
    options.cache.mode = chat_pb2.CACHE_MODE_OFF
    with server.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        for number in range(1, 60):
            said = f"Turn {number}: the weather report mentions rain, wind and {uuid.uuid4().hex}."
            if number == 2:
                said = "My sister Ingrid keeps seven goats in Tromsø."
            turn = client.chat.send(session, said, options=options)
        question = "How many goats does Ingrid keep?"
        client.memory.recall(question, min_revision=_revision(client, session))
        for asked_in in (session, client.memory.create_session().session_id):
            events = list(client.chat.stream(asked_in, question, options=options))
            assert events[1].context.token_count <= 600
            assert "seven goats" in "".join(event.delta.text for event in events)
        assert turn.user_message.sequence == 117


def _revision(client, session: str) -> int:
    """Return a revision that covers everything said so far."""
    return client.memory.append_messages(session, ["Let me think."]).user_revision
