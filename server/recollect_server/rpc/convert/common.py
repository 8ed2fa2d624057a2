"""Conversions of what the services share."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from recollect.v1 import common_pb2 as pb
from recollect_server.memory.model import (
    Message,
    Part,
    PromptMessage,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import ModelParameters, Prompt, Tool, Usage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROLES = {int(role): role for role in Role}
_NO_PARAMETERS = ModelParameters()


def to_time(value: Timestamp) -> datetime:
    """Return an aware UTC datetime, to the microsecond."""
    return datetime.fromtimestamp(value.seconds, UTC) + timedelta(microseconds=value.nanos // 1000)


def from_time(value: datetime) -> Timestamp:
    """Return a timestamp."""
    time = Timestamp()
    set_time(time, value)
    return time


def set_time(target: Timestamp, value: datetime) -> None:
    """Set a timestamp in place, which costs half of making and copying one."""
    since = value - _EPOCH
    target.seconds = since.days * 86400 + since.seconds
    target.nanos = since.microseconds * 1000


def from_seconds(seconds: float) -> Duration:
    """Return a duration."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration


def to_part(part: pb.ContentPart) -> Part:
    """Return the domain's part."""
    match part.WhichOneof("kind"):
        case "thinking":
            return ThinkingPart(part.thinking.text, part.thinking.signature)
        case "tool_call":
            call = part.tool_call
            return ToolCallPart(call.call_id, call.name, call.input_json)
        case "tool_result":
            result = part.tool_result
            return ToolResultPart(result.call_id, result.text, result.is_error)
        case _:
            return TextPart(part.text)


def from_part(part: Part) -> pb.ContentPart:
    """Return the message of a part."""
    match part:
        case TextPart(text):
            return pb.ContentPart(text=text)
        case ThinkingPart(text, signature):
            return pb.ContentPart(thinking=pb.Thinking(text=text, signature=signature))
        case ToolCallPart(call_id, name, input_json):
            call = pb.ToolCall(call_id=call_id, name=name, input_json=input_json)
            return pb.ContentPart(tool_call=call)
        case ToolResultPart(call_id, text, is_error):
            result = pb.ToolResult(call_id=call_id, text=text, is_error=is_error)
            return pb.ContentPart(tool_result=result)


def to_parts(parts: Iterable[pb.ContentPart]) -> tuple[Part, ...]:
    """Return the domain's parts; most are text, and calls have many."""
    return tuple([TextPart(text) if (text := part.text) else to_part(part) for part in parts])


def to_prompt_message(message: pb.PromptMessage) -> PromptMessage:
    """Return the domain's message."""
    return PromptMessage(_ROLES[message.role], to_parts(message.parts))


def add_prompt_messages(target: Any, messages: Iterable[Message]) -> None:
    """Append to a repeated field of PromptMessage, in place: a context holds many."""
    for message in messages:
        added = target.add()
        added.role = message.role
        add_parts(added.parts, message.parts)


def add_parts(target: Any, parts: Iterable[Part]) -> None:
    """Append to a repeated field of ContentPart, in place: most parts are text."""
    for part in parts:
        if isinstance(part, TextPart):
            target.add().text = part.text
        else:
            target.append(from_part(part))


def to_parameters(parameters: pb.ModelParameters) -> ModelParameters:
    """Return the domain's parameters."""
    return ModelParameters(
        temperature=parameters.temperature if parameters.HasField("temperature") else None,
        max_tokens=parameters.max_tokens if parameters.HasField("max_tokens") else None,
        stop=tuple(parameters.stop),
    )


def to_tools(tools: Iterable[pb.Tool]) -> tuple[Tool, ...]:
    """Return the domain's tools."""
    return tuple([Tool(t.name, t.description, t.input_schema_json) for t in tools])


def to_prompt(prompt: pb.Prompt) -> Prompt:
    """Return the domain's prompt."""
    return Prompt(
        model=prompt.model,
        system=prompt.system,
        tools=to_tools(prompt.tools),
        parameters=(
            to_parameters(prompt.parameters) if prompt.HasField("parameters") else _NO_PARAMETERS
        ),
        messages=tuple([to_prompt_message(m) for m in prompt.messages]),
    )


def to_usage(usage: pb.Usage) -> Usage:
    """Return the domain's usage."""
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
    )


def from_usage(usage: Usage) -> pb.Usage:
    """Return the protobuf message."""
    message = pb.Usage()
    set_usage(message, usage)
    return message


def set_usage(target: pb.Usage, usage: Usage) -> None:
    """Set tokens in place."""
    target.input_tokens = usage.input_tokens
    target.output_tokens = usage.output_tokens
    target.cache_read_tokens = usage.cache_read_tokens
    target.cache_write_tokens = usage.cache_write_tokens


def degradations(
    *,
    cache_down: bool = False,
    words_only: bool = False,
    answers_down: bool = False,
    by_rules: bool = False,
    no_vectors: bool = False,
) -> list[pb.Degradation]:
    """Return what was down and what it changed."""
    found = []
    if cache_down:
        found.append(
            pb.Degradation(
                component=pb.COMPONENT_WINDOW_CACHE, effect="the window was read from SQL"
            )
        )
    if words_only:
        found.append(
            pb.Degradation(component=pb.COMPONENT_EMBEDDER, effect="recall went by words alone")
        )
    if answers_down:
        found.append(
            pb.Degradation(component=pb.COMPONENT_ANSWER_CACHE, effect="the lookup missed")
        )
    if by_rules:
        found.append(
            pb.Degradation(
                component=pb.COMPONENT_SMALL_MODEL, effect="facts were compared by rules alone"
            )
        )
    if no_vectors:
        found.append(
            pb.Degradation(component=pb.COMPONENT_EMBEDDER, effect="the exact tier alone was asked")
        )
    return found
