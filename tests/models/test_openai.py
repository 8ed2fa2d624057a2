"""How prompts are laid out for OpenAI's API, how its chunks are read, and what its models cost.

The provider's behaviour is in `test_chat_models`.
"""

import json
import subprocess
import sys

import pytest
from openai.types.chat import ChatCompletionChunk

from recollect_server.chat.model import BlockKind, Delta, FinishReason, ToolUse
from recollect_server.memory.model import (
    PromptMessage,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import ModelParameters, Prompt, Tool, Usage
from recollect_server.models.openai._chat_prices import cost_usd
from recollect_server.models.openai._chat_request import request_of
from recollect_server.models.openai._chat_stream import ChatReply


def _prompt(*messages: PromptMessage, memory: str = "", **more) -> Prompt:
    values = {"system": "be nice", "tools": (), "parameters": ModelParameters()} | more
    return Prompt(model="m", messages=messages, memory=memory, **values)


def test_a_conversation_with_tools_is_laid_out_as_the_api_wants_it():
    prompt = _prompt(
        PromptMessage(Role.SYSTEM, (TextPart("be brief"),)),
        PromptMessage(Role.USER, (TextPart("a"),)),
        PromptMessage(
            Role.ASSISTANT, (ThinkingPart("t", "sig"), ToolCallPart("c", "f", '{"x":1}'))
        ),
        PromptMessage(Role.TOOL, (ToolResultPart("c", "r", is_error=True),)),
        memory="recalled",
        tools=(Tool("f", "does f", '{"type":"object"}'),),
        parameters=ModelParameters(0.5, 7, ("END",)),
    )
    request = request_of(prompt, is_openai=True)
    assert request["messages"] == [
        {"role": "system", "content": "be nice\n\nbe brief\n\nrecalled"},
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "Error: r"},
    ]
    assert request["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert (request["temperature"], request["stop"]) == (0.5, ["END"])
    assert request["max_completion_tokens"] == 7
    assert request_of(prompt, is_openai=False)["max_tokens"] == 7
    json.dumps(request)


def test_what_was_recalled_leaves_everything_before_it_as_the_last_turn_sent_it():
    history = [
        PromptMessage(Role.USER, (TextPart("a"),)),
        PromptMessage(Role.ASSISTANT, (TextPart("b"),)),
        PromptMessage(Role.USER, (TextPart("c"),)),
    ]
    first = request_of(_prompt(*history[:1], memory="one"), is_openai=True)["messages"]
    second = request_of(_prompt(*history, memory="two"), is_openai=True)["messages"]
    assert first[0] == second[0]
    assert first[1]["content"] == "one\n\na"
    assert second[1:3] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
    assert second[3]["content"] == "two\n\nc"


def test_a_call_without_its_result_is_not_sent():
    prompt = _prompt(
        PromptMessage(Role.USER, (TextPart("hi"),)),
        PromptMessage(Role.ASSISTANT, (ToolCallPart("c2", "f", "{}"), TextPart("wait"))),
        PromptMessage(Role.TOOL, (ToolResultPart("c1", "orphan"),)),
        PromptMessage(Role.USER, (TextPart("never mind"),)),
    )
    sent = request_of(prompt, is_openai=True)["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert "tool_calls" not in sent[2]


def test_a_result_stands_right_behind_its_call_wherever_it_came():
    prompt = _prompt(
        PromptMessage(Role.USER, (TextPart("weather and time?"),)),
        PromptMessage(Role.ASSISTANT, (ToolCallPart("0", "f", "{}"), ToolCallPart("1", "g", "{}"))),
        PromptMessage(Role.USER, (TextPart("hurry up"),)),
        PromptMessage(Role.TOOL, (ToolResultPart("0", "sunny"),)),
        PromptMessage(Role.ASSISTANT, (TextPart("it is sunny"),)),
        PromptMessage(Role.TOOL, (ToolResultPart("1", "noon"), ToolResultPart("1", "noon again"))),
        # Some servers number the calls of each reply anew.
        PromptMessage(Role.ASSISTANT, (ToolCallPart("0", "f", "{}"),)),
        PromptMessage(Role.TOOL, (ToolResultPart("0", "rainy"),)),
    )
    sent = request_of(prompt, is_openai=True)["messages"]
    assert [m["role"] for m in sent] == [
        "system", "user", "assistant", "tool", "user", "assistant", "tool", "assistant", "tool"
    ]  # fmt: skip
    calls = [call["id"] for m in sent for call in m.get("tool_calls", ())]
    assert calls == [m["tool_call_id"] for m in sent if m["role"] == "tool"] == ["0", "1", "0"]
    results = [m["content"] for m in sent if m["role"] == "tool"]
    assert results == ["sunny", "noon", "rainy"]


def _chunk(delta=None, finish_reason=None, usage=None) -> ChatCompletionChunk:
    choices = [] if delta is None else [
        {"index": 0, "delta": delta, "finish_reason": finish_reason}
    ]  # fmt: skip
    return ChatCompletionChunk.model_validate(
        {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": choices, "usage": usage}
    )  # fmt: skip


def _call(index: int, **more):
    return {"tool_calls": [{"index": index, **more}]}


def test_calls_that_come_in_pieces_are_put_together_and_cached_tokens_counted_apart():
    reply = ChatReply("m")
    start = {"name": "f", "arguments": ""}
    chunks = [
        _chunk({"role": "assistant", "content": ""}),
        _chunk(_call(0, id="c0", type="function", function=start)),
        _chunk(_call(0, function={"arguments": '{"x"'})),
        _chunk(_call(0, function={"arguments": ":1}"})),
        _chunk(_call(1, id="c1", type="function", function=start)),
        _chunk({}, "tool_calls"),
        _chunk(usage={"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107,
                      "prompt_tokens_details": {"cached_tokens": 80}}),
    ]  # fmt: skip
    events = [event for chunk in chunks for event in reply.take(chunk)]
    assert events == [
        ToolUse(0, "c0", "f"),
        Delta(0, BlockKind.TOOL_INPUT, '{"x"'),
        Delta(0, BlockKind.TOOL_INPUT, ":1}"),
        ToolUse(1, "c1", "f"),
    ]
    assert reply.complete
    completion = reply.completion()
    assert completion.parts == (ToolCallPart("c0", "f", '{"x":1}'), ToolCallPart("c1", "f", "{}"))
    assert completion.finish_reason is FinishReason.TOOL_USE
    assert completion.usage == Usage(20, 7, 80)


def test_a_refusal_is_one_and_a_cut_call_is_left_out():
    reply = ChatReply("m")
    list(reply.take(_chunk({"refusal": "no"}, "stop")))
    assert reply.completion().finish_reason is FinishReason.REFUSAL
    reply = ChatReply("m")
    cut = {"name": "f", "arguments": '{"x":'}
    list(reply.take(_chunk(_call(0, id="c", type="function", function=cut), "length")))
    assert (reply.completion().parts, reply.completion().finish_reason) == (
        (),
        FinishReason.MAX_TOKENS,
    )


def test_prices_count_cached_tokens_and_are_zero_for_unknown_models():
    usage = Usage(1_000_000, 1_000_000, 1_000_000)
    assert cost_usd("gpt-4.1-mini-2025-04-14", usage) == pytest.approx(0.40 + 0.10 + 1.60)
    assert cost_usd("someone-elses", usage) == 0.0


def test_importing_the_provider_does_not_import_the_sdk():
    code = "import sys, recollect_server.models.openai; assert 'openai' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
