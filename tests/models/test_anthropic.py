"""Anthropic's provider over the real SDK, against a mock of the API."""

import asyncio
import json
import subprocess
import sys
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
from recollect_server.memory.model import (
    PromptMessage,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import ModelParameters, Prompt, Tool, Usage
from recollect_server.models.anthropic import AnthropicModel
from recollect_server.models.anthropic import _model as model_module
from recollect_server.models.anthropic._prices import cost_usd
from recollect_server.models.anthropic._request import request_of

OVERLOADED = {"error": {"message": "SECRET-TEXT", "type": "overloaded_error"}, "status": 529}


def _failure(status: int, kind: str, message: str = "SECRET-TEXT", **more):
    return {"error": {"message": message, "type": kind}, "status": status, **more}


FIXTURES = [
    {"match": {"userMessage": "hello"}, "response": {"content": "Hi there, how are you?"},
     "chunkSize": 5},
    {"match": {"userMessage": "weather"}, "response": {"content": "let me see", "toolCalls": [
        {"name": "get_weather", "arguments": '{"city":"Lisbon"}'}]}},
    {"match": {"userMessage": "think"}, "response": {"content": "42", "reasoning": "hm"}},
    {"match": {"userMessage": "busy once", "sequenceIndex": 0}, "response": OVERLOADED},
    {"match": {"userMessage": "busy once"}, "response": {"content": "now"}},
    {"match": {"userMessage": "always busy"}, "response": OVERLOADED},
    {"match": {"userMessage": "cut"}, "response": {"content": "one two three four five six"},
     "chunkSize": 4, "latency": 30, "truncateAfterChunks": 6},
    {"match": {"userMessage": "slow down"},
     "response": _failure(429, "rate_limit_error", retryAfter=30)},
    {"match": {"userMessage": "key"}, "response": _failure(401, "authentication_error")},
    {"match": {"userMessage": "long"},
     "response": _failure(400, "invalid_request_error", "prompt is too long: 9 > 8 SECRET-TEXT")},
    {"match": {"userMessage": "wrong"}, "response": _failure(400, "invalid_request_error")},
    {"match": {"userMessage": "down"}, "response": _failure(500, "api_error")},
    {"match": {"userMessage": "trickle"}, "response": {"content": "word " * 200},
     "chunkSize": 5, "latency": 50},
]  # fmt: skip


@pytest.fixture
def mock(tmp_path: Path):
    with MockLlm(tmp_path, FIXTURES) as running:
        yield running


@pytest.fixture
async def model(mock, monkeypatch):
    monkeypatch.setattr(model_module, "FIRST_PAUSE_SECONDS", 0.01)
    made = AnthropicModel("test-key", base_url=mock.url)
    yield made
    await made.close()


def _prompt(text: str, **more) -> Prompt:
    values = {"system": "", "tools": (), "parameters": ModelParameters()} | more
    message = PromptMessage(Role.USER, (TextPart(text),))
    return Prompt(model="claude-opus-4-8", messages=(message,), **values)


async def _all(model, text: str):
    async with aclosing(model.stream(_prompt(text))) as events:
        return [event async for event in events]


async def test_a_reply_comes_in_several_deltas_that_add_up_to_it(model):
    *deltas, end = await _all(model, "hello")
    assert len(deltas) > 2
    assert all(isinstance(d, Delta) and d.kind is BlockKind.TEXT for d in deltas)
    assert isinstance(end, Completion)
    assert end.parts == (TextPart("".join(d.text for d in deltas)),)
    assert end.parts == (TextPart("Hi there, how are you?"),)
    assert (end.finish_reason, end.model) == (FinishReason.STOP, "claude-opus-4-8")


async def test_a_tool_call_has_its_whole_input(model):
    events = await _all(model, "weather")
    call = next(e for e in events if isinstance(e, ToolUse))
    assert (call.block, call.name) == (1, "get_weather")
    end = events[-1]
    assert end.finish_reason is FinishReason.TOOL_USE
    assert end.parts[1] == ToolCallPart(call.call_id, "get_weather", '{"city":"Lisbon"}')


async def test_thinking_keeps_its_signature(model):
    *deltas, end = await _all(model, "think")
    assert deltas[0] == Delta(0, BlockKind.THINKING, "hm")
    assert isinstance(end.parts[0], ThinkingPart)
    assert end.parts[0].signature
    assert end.parts[1] == TextPart("42")


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


async def test_a_refused_connection_is_unavailable(monkeypatch):
    monkeypatch.setattr(model_module, "FIRST_PAUSE_SECONDS", 0.01)
    model = AnthropicModel("k", base_url=f"http://127.0.0.1:{free_port()}", max_retries=1)
    with pytest.raises(Unavailable) as caught:
        await _all(model, "hello")
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


def test_the_request_is_laid_out_for_prompt_caching_and_merges_roles():
    messages = (
        PromptMessage(Role.SYSTEM, (TextPart("be brief"),)),
        PromptMessage(Role.USER, (TextPart("a"), TextPart(" "))),
        PromptMessage(Role.USER, (TextPart("b"),)),
        PromptMessage(
            Role.ASSISTANT,
            (ThinkingPart("t", "sig"), ThinkingPart("unsigned"), ToolCallPart("c", "f", '{"x":1}')),
        ),
        PromptMessage(Role.TOOL, (ToolResultPart("c", "r", is_error=True),)),
    )
    prompt = Prompt(
        "m",
        "be nice",
        (Tool("f", "does f", '{"type":"object"}'),),
        ModelParameters(temperature=0.5, max_tokens=7, stop=("END",)),
        messages,
    )
    request = request_of(prompt)
    assert request["system"] == [
        {
            "type": "text",
            "text": "be nice\n\nbe brief",
            "cache_control": {"type": "ephemeral"},
        }
    ]
    assert [m["role"] for m in request["messages"]] == ["user", "assistant", "user"]
    assert [b["text"] for b in request["messages"][0]["content"]] == ["a", "b"]
    assert request["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "t", "signature": "sig"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
    ]
    assert request["messages"][2]["content"][0]["is_error"] is True
    assert (request["temperature"], request["max_tokens"], request["stop_sequences"]) == (
        0.5,
        7,
        ["END"],
    )
    assert request["tools"][0]["input_schema"] == {"type": "object"}
    json.dumps(request)


def test_a_window_that_begins_in_the_middle_is_still_a_conversation():
    call = ToolCallPart("c1", "f", "{}")
    messages = (
        PromptMessage(Role.ASSISTANT, (TextPart("cut off"), call)),
        PromptMessage(Role.TOOL, (ToolResultPart("c1", "orphan"),)),
        PromptMessage(Role.ASSISTANT, (TextPart("also cut off"),)),
        PromptMessage(Role.USER, (TextPart("hi"),)),
        PromptMessage(Role.ASSISTANT, (ToolCallPart("c2", "f", "{}"), TextPart("wait"))),
        PromptMessage(Role.USER, (TextPart("never mind"),)),
    )
    sent = request_of(Prompt("m", "", (), ModelParameters(), messages))["messages"]
    assert sent == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "wait"}]},
        {"role": "user", "content": [{"type": "text", "text": "never mind"}]},
    ]


def test_prices_count_cached_tokens_and_are_zero_for_unknown_models():
    usage = Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000)
    assert cost_usd("claude-opus-4-8", usage) == pytest.approx(5 + 25 + 0.5 + 6.25)
    assert cost_usd("someone-elses", usage) == 0.0


def test_importing_the_provider_does_not_import_the_sdk():
    code = "import sys, recollect_server.models.anthropic; assert 'anthropic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
