"""How prompts are laid out for Anthropic's API, and what its models cost.

The provider's behaviour is in `test_chat_models`.
"""

import json
import subprocess
import sys

import pytest
from anthropic.types import RawMessageDeltaEvent, RawMessageStartEvent

from recollect_server.chat.model import FinishReason
from recollect_server.memory.model import (
    PromptMessage,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import ModelParameters, Prompt, Tool, Usage
from recollect_server.models.anthropic._prices import cost_usd
from recollect_server.models.anthropic._request import request_of
from recollect_server.models.anthropic._stream import Reply


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
    assert request["extra_body"] == {"temperature": 0.5}
    assert (request["max_tokens"], request["stop_sequences"]) == (7, ["END"])
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
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "wait", "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "never mind"}]},
    ]


def test_a_result_stands_right_behind_its_call_wherever_it_came():
    messages = (
        PromptMessage(Role.USER, (TextPart("weather and time?"),)),
        PromptMessage(
            Role.ASSISTANT, (ToolCallPart("c1", "f", "{}"), ToolCallPart("c2", "g", "{}"))
        ),
        PromptMessage(Role.USER, (TextPart("hurry up"),)),
        PromptMessage(Role.TOOL, (ToolResultPart("c1", "sunny"), TextPart("as asked"))),
        PromptMessage(Role.ASSISTANT, (TextPart("it is sunny"),)),
        PromptMessage(Role.TOOL, (ToolResultPart("c1", "sunny again"),)),
        PromptMessage(Role.TOOL, (ToolResultPart("c2", "noon"),)),
    )
    sent = request_of(Prompt("m", "", (), ModelParameters(), messages))["messages"]
    assert [(m["role"], [b["type"] for b in m["content"]]) for m in sent] == [
        ("user", ["text"]),
        ("assistant", ["tool_use"]),
        ("user", ["tool_result", "text", "text"]),
        ("assistant", ["text", "tool_use"]),
        ("user", ["tool_result"]),
    ]
    results = [b["content"] for m in sent for b in m["content"] if b["type"] == "tool_result"]
    assert results == ["sunny", "noon"]


def test_what_was_recalled_leaves_everything_before_it_as_the_last_turn_sent_it():
    history = [
        PromptMessage(Role.USER, (TextPart("a"),)),
        PromptMessage(Role.ASSISTANT, (TextPart("b"),)),
        PromptMessage(Role.USER, (TextPart("c"),)),
        PromptMessage(Role.ASSISTANT, (TextPart("d"),)),
        PromptMessage(Role.USER, (TextPart("e"),)),
    ]

    def sent(count: int, memory: str):
        messages = tuple(history[:count])
        return request_of(Prompt("m", "be nice", (), ModelParameters(), messages, memory))

    def plain(messages):
        return [[{**b, "cache_control": None} for b in m["content"]] for m in messages]

    first, second = sent(3, "<memory>one</memory>"), sent(5, "<memory>two</memory>")
    assert first["system"] == second["system"]
    assert first["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert plain(first["messages"][:2]) == plain(second["messages"][:2])
    assert second["messages"][3]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    newest = second["messages"][4]["content"]
    assert [block["text"] for block in newest] == ["<memory>two</memory>", "e"]
    assert not any("cache_control" in block for block in newest)


def test_without_a_question_what_was_recalled_is_in_the_system_prompt():
    messages = (
        PromptMessage(Role.USER, (TextPart("a"),)),
        PromptMessage(Role.ASSISTANT, (ToolCallPart("c", "f", "{}"),)),
        PromptMessage(Role.TOOL, (ToolResultPart("c", "r"),)),
    )
    request = request_of(Prompt("m", "be nice", (), ModelParameters(), messages, "recalled"))
    assert request["system"][0]["text"] == "be nice\n\nrecalled"
    assert [b["type"] for b in request["messages"][-1]["content"]] == ["tool_result"]


def test_cached_tokens_are_counted_apart():
    usage = {"input_tokens": 20, "output_tokens": 1, "cache_read_input_tokens": 80,
             "cache_creation_input_tokens": 5}  # fmt: skip
    start = {"type": "message_start", "message": {
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage}}  # fmt: skip
    end = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_sequence": None},
           "usage": {"output_tokens": 7}}  # fmt: skip
    reply = Reply("m")
    for event in (RawMessageStartEvent(**start), RawMessageDeltaEvent(**end)):
        assert list(reply.take(event)) == []
    completion = reply.completion()
    assert completion.usage == Usage(20, 7, 80, 5)
    assert completion.finish_reason is FinishReason.REFUSAL


def test_prices_count_cached_tokens_and_are_zero_for_unknown_models():
    usage = Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000)
    assert cost_usd("claude-opus-4-8", usage) == pytest.approx(5 + 25 + 0.5 + 6.25)
    assert cost_usd("someone-elses", usage) == 0.0


def test_importing_the_provider_does_not_import_the_sdk():
    code = "import sys, recollect_server.models.anthropic; assert 'anthropic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
