"""A prompt as the Messages API takes it."""

import json
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

DEFAULT_MAX_TOKENS = 4096


def request_of(prompt: Prompt) -> dict[str, Any]:
    """Return the arguments of `messages.create` for a prompt."""
    request: dict[str, Any] = {
        "model": prompt.model,
        "max_tokens": prompt.parameters.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": _messages(prompt.messages),
    }
    system = "\n\n".join(
        filter(
            None,
            [
                prompt.system,
                *(plain_text(m.parts) for m in prompt.messages if m.role is Role.SYSTEM),
            ],
        )
    )
    if system:
        request["system"] = [
            {"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}
        ]
    if prompt.tools:
        request["tools"] = [_tool(tool) for tool in prompt.tools]
    if prompt.parameters.temperature is not None:
        request["temperature"] = prompt.parameters.temperature
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


def _messages(messages: tuple[PromptMessage, ...]) -> list[dict[str, Any]]:
    """Return the conversation as the API wants it.

    Neighbours of one role are merged, the first one is the user's, and a tool call and its result
    come together or not at all: a window may begin between the two.
    """
    paired = _paired_calls(messages)
    merged: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = [block for part in message.parts if (block := _block(part, paired))]
        if not blocks or (not merged and role == "assistant"):
            continue
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(blocks)
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def _paired_calls(messages: tuple[PromptMessage, ...]) -> set[str]:
    """Return the ids of tool calls that are answered, where both are sent."""
    first_user = next((n for n, m in enumerate(messages) if m.role is Role.USER), len(messages))
    parts = [part for message in messages[first_user:] for part in message.parts]
    calls = {part.call_id for part in parts if isinstance(part, ToolCallPart)}
    return calls & {part.call_id for part in parts if isinstance(part, ToolResultPart)}


def _block(part: Part, paired: set[str]) -> dict[str, Any] | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text} if text.strip() else None
        case ThinkingPart(text, signature):
            if not signature:
                return None
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCallPart(call_id) | ToolResultPart(call_id) if call_id not in paired:
            return None
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
