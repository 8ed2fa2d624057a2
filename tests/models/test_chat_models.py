"""What every provider of chat models does, over the real SDKs against a mock of the APIs."""

import asyncio
import socket
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.mocks.llm import MockLlm, free_port

from recollect_server.chat.model import BlockKind, Completion, Delta, FinishReason, ToolUse
from recollect_server.errors import (
    FailedPrecondition,
    InvalidArgument,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from recollect_server.memory.model import PromptMessage, Role, TextPart, ThinkingPart, ToolCallPart
from recollect_server.memory.prompt import ModelParameters, Prompt, Tool, Usage
from recollect_server.models import api
from recollect_server.models.anthropic import AnthropicModel
from recollect_server.models.offline import OfflineModel
from recollect_server.models.openai import OpenAiModel

OVERLOADED = {"error": {"message": "SECRET-TEXT", "type": "overloaded_error"}, "status": 529}
WEATHER = Tool("get_weather", "the weather of a place", '{"type":"object"}')


def _failure(status: int, kind: str, message: str = "SECRET-TEXT", **more):
    return {"error": {"message": message, "type": kind, **more}, "status": status}


FIXTURES = [
    {"match": {"userMessage": "hello"}, "response": {"content": "Hi there, how are you?"},
     "chunkSize": 5},
    {"match": {"userMessage": "weather"}, "response": {"content": "let me see", "toolCalls": [
        {"name": "get_weather", "arguments": '{"city":"Lisbon"}'}]}},
    {"match": {"userMessage": "think"}, "response": {"content": "42", "reasoning": "hm"}},
    {"match": {"userMessage": "too much"},
     "response": {"content": "cut sho", "finishReason": "length"}},
    {"match": {"userMessage": "forbidden"},
     "response": {"content": "I cannot", "finishReason": "content_filter"}},
    {"match": {"userMessage": "counted"}, "response": {"content": "one", "usage": {
        "prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107,
        "input_tokens": 20, "output_tokens": 7}}},
    {"match": {"userMessage": "busy once", "sequenceIndex": 0}, "response": OVERLOADED},
    {"match": {"userMessage": "busy once"}, "response": {"content": "now"}},
    {"match": {"userMessage": "always busy"}, "response": OVERLOADED},
    {"match": {"userMessage": "cut"}, "response": {"content": "one two three four five six"},
     "chunkSize": 4, "latency": 30, "truncateAfterChunks": 6},
    {"match": {"userMessage": "slow down"},
     "response": {**_failure(429, "rate_limit_error"), "retryAfter": 30}},
    {"match": {"userMessage": "key"}, "response": _failure(401, "authentication_error")},
    {"match": {"userMessage": "long"},
     "response": _failure(400, "invalid_request_error", "prompt is too long: 9 > 8 SECRET-TEXT")},
    {"match": {"userMessage": "wrong"}, "response": _failure(400, "invalid_request_error")},
    {"match": {"userMessage": "down"}, "response": _failure(500, "api_error")},
    {"match": {"userMessage": "trickle"}, "response": {"content": "word " * 200},
     "chunkSize": 5, "latency": 50},
]  # fmt: skip

PROVIDERS = {"anthropic": AnthropicModel, "openai": OpenAiModel}


@pytest.fixture
def mock(tmp_path: Path):
    with MockLlm(tmp_path, FIXTURES) as running:
        yield running


@pytest.fixture(params=["anthropic", "openai"])
def provider(request):
    return request.param


def _open(provider: str, url: str, **more):
    path = "/v1" if provider == "openai" else ""
    return PROVIDERS[provider]("test-key", base_url=url + path, default_model="a-model", **more)


@pytest.fixture
async def model(provider, mock, monkeypatch):
    monkeypatch.setattr(api, "FIRST_PAUSE_SECONDS", 0.01)
    made = _open(provider, mock.url)
    yield made
    await made.close()


def _prompt(text: str, **more) -> Prompt:
    values = {"system": "", "tools": (), "parameters": ModelParameters()} | more
    message = PromptMessage(Role.USER, (TextPart(text),))
    return Prompt(model="a-model", messages=(message,), **values)


async def _all(model, text: str, **more):
    async with aclosing(model.stream(_prompt(text, **more))) as events:
        return [event async for event in events]


def _check_adds_up(events) -> Completion:
    """Check that the deltas add up to the completion's parts, and return it."""
    *pieces, end = events
    assert isinstance(end, Completion)
    said: dict[int, str] = {}
    for piece in pieces:
        if isinstance(piece, Delta):
            said[piece.block] = said.get(piece.block, "") + piece.text
    texts = [p.input_json if isinstance(p, ToolCallPart) else p.text for p in end.parts]
    assert list(said.values()) == texts
    return end


async def test_a_reply_comes_in_several_deltas_that_add_up_to_it(model):
    events = await _all(model, "hello")
    assert len(events) > 3
    assert all(d.kind is BlockKind.TEXT for d in events[:-1])
    end = _check_adds_up(events)
    assert end.parts == (TextPart("Hi there, how are you?"),)
    assert (end.finish_reason, end.model) == (FinishReason.STOP, "a-model")


async def test_the_offline_model_keeps_the_same_contract():
    model = OfflineModel()
    end = _check_adds_up(await _all(model, "hello"))
    assert (end.finish_reason, end.model) == (FinishReason.STOP, model.default_model)
    assert end.usage.output_tokens > 0
    assert model.cost_usd(end) == 0


async def test_a_tool_call_has_its_whole_input(model):
    events = await _all(model, "weather", tools=(WEATHER,))
    call = next(e for e in events if isinstance(e, ToolUse))
    assert (call.block, call.name) == (1, "get_weather")
    end = _check_adds_up(events)
    assert end.finish_reason is FinishReason.TOOL_USE
    assert end.parts[1] == ToolCallPart(call.call_id, "get_weather", '{"city":"Lisbon"}')


async def test_thinking_is_apart_from_the_answer(model, provider):
    events = await _all(model, "think")
    assert events[0] == Delta(0, BlockKind.THINKING, "hm")
    end = _check_adds_up(events)
    assert isinstance(end.parts[0], ThinkingPart)
    assert bool(end.parts[0].signature) == (provider == "anthropic")
    assert end.parts[1] == TextPart("42")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("too much", FinishReason.MAX_TOKENS), ("forbidden", FinishReason.REFUSAL)],
)
async def test_why_a_reply_ended_is_told(model, provider, text, reason):
    if provider == "anthropic" and reason is FinishReason.REFUSAL:
        pytest.skip("the mock has no refusal in Anthropic's words")
    assert (await _all(model, text))[-1].finish_reason is reason


async def test_tokens_are_counted(model, provider):
    end = (await _all(model, "counted"))[-1]
    assert end.usage == Usage(20 if provider == "anthropic" else 100, 7)


async def test_sampling_is_passed_on(model, mock, provider):
    parameters = ModelParameters(temperature=0.5, max_tokens=7, stop=("END",))
    await _all(model, "hello", parameters=parameters, system="be brief", tools=(WEATHER,))
    (body,) = mock.requests()
    assert (body["temperature"], body["max_tokens"]) == (0.5, 7)
    assert "be brief" in str(body)
    assert "get_weather" in str(body["tools"])
    if provider == "openai":
        assert body["stop"] == ["END"]


async def test_an_overload_before_the_first_token_is_tried_again(model, mock):
    events = await _all(model, "busy once")
    assert events[-1].parts == (TextPart("now"),)
    assert len(mock.requests()) == 2


@pytest.mark.parametrize(
    ("text", "error", "reason", "calls"),
    [
        ("always busy", Unavailable, Reason.MODEL_OVERLOADED, 3),
        ("down", Unavailable, Reason.MODEL_UNAVAILABLE, 3),
        ("slow down", ResourceExhausted, Reason.MODEL_RATE_LIMITED, 1),
        ("key", FailedPrecondition, Reason.MODEL_CREDENTIAL, 1),
        ("long", InvalidArgument, Reason.CONTEXT_TOO_LONG, 1),
        ("wrong", InvalidArgument, Reason.MODEL_REJECTED, 1),
    ],
)
async def test_a_failure_has_its_reason_its_retries_and_none_of_the_provider_s_text(
    model, mock, text, error, reason, calls
):
    with pytest.raises(error) as caught:
        await _all(model, text)
    assert caught.value.reason is reason
    assert "SECRET-TEXT" not in caught.value.message
    assert len(mock.requests()) == calls


async def test_a_rate_limit_says_when_to_come_back(model):
    with pytest.raises(ResourceExhausted) as caught:
        await _all(model, "slow down")
    assert caught.value.retry_after == 30


async def test_a_stream_that_breaks_after_its_first_delta_is_not_tried_again(model, mock):
    seen = []

    async def read() -> None:
        async for event in model.stream(_prompt("cut")):
            seen.append(event)

    with pytest.raises(Unavailable) as caught:
        await read()
    assert seen
    assert not any(isinstance(event, Completion) for event in seen)
    assert caught.value.reason is Reason.MODEL_UNAVAILABLE
    assert len(mock.requests()) == 1


async def test_a_refused_connection_is_unavailable(provider, monkeypatch):
    monkeypatch.setattr(api, "FIRST_PAUSE_SECONDS", 0.01)
    model = _open(provider, f"http://127.0.0.1:{free_port()}", max_retries=1)
    with pytest.raises(Unavailable) as caught:
        await _all(model, "hello")
    assert caught.value.reason is Reason.MODEL_UNAVAILABLE
    assert caught.value.retry_after is not None
    await model.close()


async def test_an_api_that_hangs_is_given_up_once_for_all_retries(provider):
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        model = _open(provider, f"http://127.0.0.1:{hanging.getsockname()[1]}", timeout=0.5)
        await model._open()
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await _all(model, "hello")
        assert time.monotonic() - started < 5
        assert caught.value.reason is Reason.MODEL_UNAVAILABLE
        await model.close()


async def test_leaving_early_or_cancelling_ends_the_call(model):
    async with aclosing(model.stream(_prompt("trickle"))) as events:
        async for _ in events:
            break

    async def read() -> None:
        async for _ in model.stream(_prompt("trickle")):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await _all(model, "hello"))[-1].parts
