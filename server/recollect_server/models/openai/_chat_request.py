"""A prompt as the chat completions API takes it."""

import json
from collections.abc import Iterator
from typing import Any

from recollect_server.memory.model import (
    PromptMessage,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    plain_text,
)
from recollect_server.memory.prompt import Prompt, Tool
from recollect_server.models.conversation import newest_question, with_answered_calls


def request_of(prompt: Prompt, *, is_openai: bool) -> dict[str, Any]:
    """Return the arguments of `chat.completions.create` for a prompt.

    What was recalled stands in the newest message, so that everything before it is the same in the
    next turn, and the provider finds it in its prompt cache.

    Args:
        is_openai: OpenAI's own API, which has renamed `max_tokens`.
    """
    request: dict[str, Any] = {
        "model": prompt.model,
        "messages": list(_messages(prompt)),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if prompt.tools:
        request["tools"] = [_tool(tool) for tool in prompt.tools]
    parameters = prompt.parameters
    if parameters.max_tokens is not None:
        request["max_completion_tokens" if is_openai else "max_tokens"] = parameters.max_tokens
    if parameters.temperature is not None:
        request["temperature"] = parameters.temperature
    if parameters.stop:
        request["stop"] = list(parameters.stop)
    # Other servers may refuse what they do not know; the prompt itself asks for JSON, too.
    if prompt.output_schema_json and is_openai:
        schema = {"name": "answer", "schema": json.loads(prompt.output_schema_json), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return request


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": json.loads(tool.input_schema_json),
        },
    }


def _messages(prompt: Prompt) -> Iterator[dict[str, Any]]:
    messages = with_answered_calls(prompt.messages)
    newest = newest_question(messages)
    system = [
        prompt.system,
        *(plain_text(m.parts) for m in messages if m.role is Role.SYSTEM),
    ]
    if newest is None:
        system.append(prompt.memory)
    if any(system):
        yield {"role": "system", "content": "\n\n".join(filter(None, system))}
    for position, message in enumerate(messages):
        memory = prompt.memory if position == newest else ""
        match message.role:
            case Role.USER | Role.TOOL:
                yield from _given(message, memory)
            case Role.ASSISTANT:
                yield from _said(message)


def _given(message: PromptMessage, memory: str) -> Iterator[dict[str, Any]]:
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            text = f"Error: {part.text}" if part.is_error else part.text
            yield {"role": "tool", "tool_call_id": part.call_id, "content": text}
    text = plain_text(tuple(p for p in message.parts if isinstance(p, TextPart)))
    content = "\n\n".join(filter(None, (memory, text)))
    if content.strip():
        yield {"role": "user", "content": content}


def _said(message: PromptMessage) -> Iterator[dict[str, Any]]:
    text = plain_text(tuple(p for p in message.parts if isinstance(p, TextPart)))
    calls = [
        {
            "id": part.call_id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.input_json or "{}"},
        }
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    if text or calls:
        said: dict[str, Any] = {"role": "assistant", "content": text or None}
        yield said | ({"tool_calls": calls} if calls else {})
