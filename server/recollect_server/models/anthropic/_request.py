"""A prompt as the Messages API takes it."""

import json
from collections.abc import Sequence
from typing import Any

from recollect_server.memory.model import (
    Part,
    PromptMessage,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    plain_text,
)
from recollect_server.memory.prompt import Prompt, Tool
from recollect_server.models.conversation import newest_question, with_answered_calls

DEFAULT_MAX_TOKENS = 4096
CACHED = {"type": "ephemeral"}


def request_of(prompt: Prompt) -> dict[str, Any]:
    """Return the arguments of `messages.create` for a prompt.

    It is laid out for prompt caching: tools, system prompt and all messages but the newest are
    what the last turn sent too, and what was recalled stands in the newest one.
    """
    messages = with_answered_calls(prompt.messages)
    newest = newest_question(messages)
    request: dict[str, Any] = {
        "model": prompt.model,
        "max_tokens": prompt.parameters.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": _messages(messages, newest, prompt.memory),
    }
    system = [
        prompt.system,
        *(plain_text(m.parts) for m in messages if m.role is Role.SYSTEM),
        *([prompt.memory] if newest is None else []),
    ]
    if any(system):
        text = "\n\n".join(filter(None, system))
        request["system"] = [{"type": "text", "text": text, "cache_control": CACHED}]
    if prompt.tools:
        request["tools"] = [_tool(tool) for tool in prompt.tools]
    if prompt.parameters.temperature is not None:
        # The API knows it, but its SDK has no argument of this name.
        request["extra_body"] = {"temperature": prompt.parameters.temperature}
    if prompt.parameters.stop:
        request["stop_sequences"] = list(prompt.parameters.stop)
    if prompt.output_schema_json:
        schema = json.loads(prompt.output_schema_json)
        request["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return request


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": json.loads(tool.input_schema_json),
    }


def _messages(
    messages: Sequence[PromptMessage], newest: int | None, memory: str
) -> list[dict[str, Any]]:
    """Return the conversation as the API wants it.

    Neighbours of one role are merged, and the first one is the user's.
    """
    merged: list[dict[str, Any]] = []
    for position, message in enumerate(messages):
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = [block for part in message.parts if (block := _block(part))]
        if not blocks or (not merged and role == "assistant"):
            continue
        if position == newest:
            _mark_as_cached(merged)
            if memory:
                blocks.insert(0, {"type": "text", "text": memory})
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(blocks)
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def _mark_as_cached(before: list[dict[str, Any]]) -> None:
    """End the part of the prompt that the next turn will send again."""
    if before and before[-1]["content"][-1]["type"] not in ("thinking",):
        before[-1]["content"][-1]["cache_control"] = CACHED


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text} if text.strip() else None
        case ThinkingPart(text, signature):
            if not signature:
                return None
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCallPart(call_id, name, input_json):
            arguments = json.loads(input_json or "{}")
            return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        case ToolResultPart(call_id, text, is_error):
            return {
                "type": "tool_result",
                "tool_use_id": call_id,
                "content": text,
                "is_error": is_error,
            }
