"""Chat and the answer cache as a client sees them, with the offline provider."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.harness import RunningServer, children, eventually, unique
from tests.mocks.llm import MockLlm

from recollect import errors
from recollect.v1 import cache_pb2, chat_pb2, common_pb2, memory_pb2


@pytest.fixture
def client(server):
    with server.client(unique("ada")) as opened:
        yield opened


def _prompt(*texts: str, model: str = "m", system: str = "") -> common_pb2.Prompt:
    roles = (common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT)
    messages = [
        common_pb2.PromptMessage(role=roles[n % 2], parts=[common_pb2.ContentPart(text=text)])
        for n, text in enumerate(texts)
    ]
    return common_pb2.Prompt(model=model, system=system, messages=messages)


def _kinds(events) -> list[str]:
    return [event.WhichOneof("kind") for event in events]


def _said(events) -> str:
    return "".join(event.delta.text for event in events)


def test_an_answer_is_served_to_the_same_conversation_only(client):
    prompt = _prompt("a", "b", "and the second one?")
    assert client.cache.lookup(prompt).miss_reason == cache_pb2.MISS_REASON_NOT_FOUND
    entry = client.cache.store(prompt, "two", tags=["t"])
    found = client.cache.lookup(prompt)
    assert (found.hit, found.tier, found.probability) == (True, cache_pb2.CACHE_TIER_EXACT, 1.0)
    assert found.entry == entry
    assert entry.answer[0].text == "two"
    assert client.cache.get_entry(entry.entry_id) == entry
    for other in (
        _prompt("x", "b", "and the second one?"),
        _prompt("and the second one?"),
        _prompt("a", "b", "and the second one?", model="n"),
        _prompt("a", "b", "and the second one?", system="s"),
    ):
        assert not client.cache.lookup(other, tiers=[cache_pb2.CACHE_TIER_EXACT]).hit


def test_scopes_keep_answers_apart(server, client):
    prompt = _prompt("q")
    client.cache.store(prompt, "mine", scope=cache_pb2.CACHE_SCOPE_SESSION, session_id="s1")
    in_s1 = client.cache.lookup(prompt, scope=cache_pb2.CACHE_SCOPE_SESSION, session_id="s1")
    in_s2 = client.cache.lookup(prompt, scope=cache_pb2.CACHE_SCOPE_SESSION, session_id="s2")
    assert (in_s1.hit, in_s2.hit, client.cache.lookup(prompt).hit) == (True, False, False)
    entry = client.cache.store(prompt, "mine")
    with server.client(unique("eve")) as eve:
        assert not eve.cache.lookup(prompt).hit
        with pytest.raises(errors.NotFound):
            eve.cache.get_entry(entry.entry_id)
    with pytest.raises(errors.FailedPrecondition) as caught:
        client.cache.lookup(prompt, scope=cache_pb2.CACHE_SCOPE_GLOBAL)
    assert caught.value.reason == "GLOBAL_SCOPE_OFF"


def test_an_answer_older_than_a_recalled_fact_is_not_served(client):
    prompt = _prompt("where do I live?")
    client.cache.store(prompt, "Lisbon", holds_memory=True)
    fact = client.memory.remember(["Moved to Porto"]).facts[0].fact_id
    found = client.cache.lookup(prompt, recalled_fact_ids=[fact])
    assert (found.hit, found.miss_reason) == (False, cache_pb2.MISS_REASON_NEWER_MEMORY)


def test_entries_end_with_their_ttl(client):
    prompt = _prompt("short")
    client.cache.store(prompt, "lived", ttl=0.2)
    eventually(lambda: not client.cache.lookup(prompt).hit)


def test_several_prompts_are_looked_up_at_once(client):
    client.cache.store(_prompt("a"), "1")
    requests = [cache_pb2.LookupRequest(prompt=_prompt(text)) for text in ("b", "a")]
    assert [r.hit for r in client.cache.batch_lookup(requests)] == [False, True]


def test_a_turn_is_streamed_in_order_and_kept(client):
    session = client.memory.create_session().session_id
    client.memory.remember(["Allergic to peanuts"])
    events = list(client.chat.stream(session, "Am I allergic to peanuts?"))
    kinds = _kinds(events)
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert kinds[:3] == ["started", "context", "cache"]
    assert kinds[-2:] == ["usage", "done"]
    assert kinds.count("delta") > 2
    turn = events[-1].done.turn
    assert turn.state == chat_pb2.TURN_STATE_DONE
    assert _said(events) == turn.reply.parts[0].text
    assert "No language model is configured" in _said(events)
    assert "Allergic to peanuts" in _said(events)
    listed = list(client.memory.list_messages(session))
    assert listed == [turn.user_message, turn.reply]
    kept = client.chat.get_turn(turn.turn_id)
    assert (kept.state, kept.reply, kept.usage) == (turn.state, turn.reply, turn.usage)
    assert turn.timings.total.ToMicroseconds() >= turn.timings.first_token.ToMicroseconds() > 0


def test_the_same_conversation_is_answered_by_the_cache_and_marked_so(client):
    client.memory.remember(["Allergic to peanuts"])
    replies = []
    for _ in range(3):
        session = client.memory.create_session().session_id
        for question in ("Am I allergic to peanuts?", "and to anything else?"):
            replies.append(client.chat.send(session, question))
    assert [r.cache.hit for r in replies] == [False, False, True, True, True, True]
    assert {r.cache.tier for r in replies[2:]} == {cache_pb2.CACHE_TIER_EXACT}
    assert replies[4].reply.parts == replies[0].reply.parts
    assert replies[4].cache.entry_id == replies[0].cache.entry_id
    assert replies[4].usage == common_pb2.Usage()
    client.memory.remember(["Allergic to strawberries too"])
    session = client.memory.create_session().session_id
    fresh = client.chat.send(session, "Am I allergic to peanuts?")
    assert (fresh.cache.hit, fresh.cache.miss_reason) == (
        False,
        cache_pb2.MISS_REASON_NEWER_MEMORY,
    )


def test_the_cache_can_be_switched_off(client):
    options = chat_pb2.ChatOptions(cache=chat_pb2.ChatCacheOptions(mode=chat_pb2.CACHE_MODE_OFF))
    turns = [
        client.chat.send(client.memory.create_session().session_id, "hello", options=options)
        for _ in range(2)
    ]
    assert [turn.cache.hit for turn in turns] == [False, False]


def test_a_repeated_request_replays_its_turn(client):
    session = client.memory.create_session().session_id
    request_id = "5b6ad0e2-52a1-4b58-9f0e-5f9b3b7c8a10"
    first = list(client.chat.stream(session, "hello there", request_id=request_id))
    again = list(client.chat.stream(session, "hello there", request_id=request_id))
    assert _said(again) == _said(first)
    assert again[-1].done.turn.turn_id == first[-1].done.turn.turn_id
    assert len(list(client.memory.list_messages(session))) == 2
    with pytest.raises(errors.FailedPrecondition) as caught:
        list(client.chat.stream(session, "something else", request_id=request_id))
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_turns_of_one_session_run_one_after_the_other(server):
    async with server.async_client(unique("ada")) as client:
        session = (await client.memory.create_session()).session_id
        turns = await asyncio.gather(*(client.chat.send(session, f"q{n}") for n in range(8)))
        listed = [m async for m in client.memory.list_messages(session)]
    roles = [common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT]
    assert [m.role for m in listed] == roles * 8
    assert all(t.reply.sequence == t.user_message.sequence + 1 for t in turns)


# The first match answers. A message whose turn failed stays in the conversation, so "hello" stands
# before those that fail.
MOCKED = [
    {"match": {"userMessage": "hello", "sequenceIndex": 0},
     "response": {"error": {"message": "no", "type": "overloaded_error"}, "status": 529}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Hi, how are you?"},
     "chunkSize": 4},
    {"match": {"userMessage": "tell"}, "response": {"content": "word " * 40},
     "chunkSize": 5, "latency": 50},
    {"match": {"userMessage": "broken"}, "response": {"content": "word " * 40},
     "chunkSize": 5, "latency": 20, "truncateAfterChunks": 8},
    {"match": {"userMessage": "busy"},
     "response": {"error": {"message": "no", "type": "overloaded_error"}, "status": 529}},
]  # fmt: skip


@pytest.fixture(scope="module")
def anthropic(tmp_path_factory: pytest.TempPathFactory):
    """A server whose provider is Anthropic's, at a mock of its API."""
    folder: Path = tmp_path_factory.mktemp("mock")
    with (
        MockLlm(folder, MOCKED) as mock,
        RunningServer(
            "--anthropic-base-url", mock.url, environment={"ANTHROPIC_API_KEY": "test"}
        ) as running,
    ):
        yield running


def test_anthropic_streams_after_an_overload(anthropic):
    with anthropic.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        events = list(client.chat.stream(session, "hello"))
        info = client.admin.get_server_info()
    assert (info.chat_provider, info.chat_model) == ("anthropic", "claude-opus-4-8")
    assert _said(events) == "Hi, how are you?"
    assert _kinds(events).count("delta") > 2
    assert events[-1].done.turn.model == "claude-opus-4-8"


@pytest.mark.parametrize(
    ("text", "why"), [("busy", "MODEL_OVERLOADED"), ("broken", "MODEL_UNAVAILABLE")]
)
def test_a_failing_model_keeps_the_message_and_says_when_to_retry(anthropic, text, why):
    with anthropic.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        with pytest.raises(errors.Unavailable) as caught:
            list(client.chat.stream(session, text))
        assert caught.value.reason == why
        assert caught.value.retry_after is not None
        listed = list(client.memory.list_messages(session))
        assert [m.parts[0].text for m in listed] == [text]
        assert client.chat.send(session, "hello").state == chat_pb2.TURN_STATE_DONE


def test_a_turn_whose_reader_leaves_is_finished(anthropic):
    with anthropic.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        for event in client.chat.stream(session, "tell"):
            if event.WhichOneof("kind") == "delta":
                break
        listed = eventually(lambda: _two(client, session))
    assert listed[1].parts[0].text == "word " * 40


def test_a_turn_whose_reader_leaves_is_cancelled_if_it_was_asked_for(anthropic):
    options = chat_pb2.ChatOptions(on_disconnect=chat_pb2.ON_DISCONNECT_CANCEL)
    with anthropic.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        for event in client.chat.stream(session, "tell", options=options):
            if event.WhichOneof("kind") == "started":
                turn_id = event.started.turn_id
            if event.WhichOneof("kind") == "delta":
                break
        listed = eventually(lambda: _two(client, session))
        state = client.chat.get_turn(turn_id).state
    assert 0 < len(listed[1].parts[0].text) < len("word " * 40)
    assert listed[1].metadata["turn_state"] == "cancelled"
    assert state == chat_pb2.TURN_STATE_CANCELLED


def test_a_second_turn_can_be_refused_while_one_runs(anthropic):
    options = chat_pb2.ChatOptions(concurrency=chat_pb2.TURN_CONCURRENCY_ABORT)
    with anthropic.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        running = client.chat.stream(session, "tell")
        assert next(running).WhichOneof("kind") == "started"
        with pytest.raises(errors.Aborted) as caught:
            client.chat.send(session, "hello", options=options)
        assert caught.value.reason == "TURN_IN_PROGRESS"
        assert _kinds(running)[-1] == "done"


def _two(client, session: str) -> list[memory_pb2.Message]:
    listed = list(client.memory.list_messages(session))
    return listed if len(listed) == 2 else []


def test_without_valkey_memory_and_chat_go_on_and_with_it_the_cache_is_back():
    with RunningServer() as server, server.client("ada") as client:
        session = client.memory.create_session().session_id
        client.memory.append_messages(session, ["before"])
        (valkey,) = children(server.pid)
        os.kill(valkey, signal.SIGSTOP)
        context = client.memory.get_context(session)
        assert [m.parts[0].text for m in context.messages] == ["before"]
        down = [d.component for d in context.degradations]
        assert down == [common_pb2.COMPONENT_WINDOW_CACHE]
        missed = client.cache.lookup(_prompt("q"))
        assert missed.miss_reason == cache_pb2.MISS_REASON_DEGRADED
        with pytest.raises(errors.Unavailable):
            client.cache.store(_prompt("q"), "a", timeout=20)
        assert client.chat.send(session, "hello").state == chat_pb2.TURN_STATE_DONE
        stores = {s.name: s.available for s in client.admin.get_server_info().stores}
        assert (stores["sql"], stores["cache"]) == (True, False)
        os.kill(valkey, signal.SIGKILL)
        eventually(lambda: _stores(client), 20)
        assert client.cache.lookup(_prompt("q")).hit
        assert not client.memory.get_context(session).degradations


def _stores(client) -> bool:
    try:
        return bool(client.cache.store(_prompt("q"), "a").entry_id)
    except errors.Unavailable:
        return False
