"""Asking a provider's small model for a short text, or for values of a known form."""

import html
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from recollect_server.chat.model import Completion, FinishReason
from recollect_server.chat.ports import ChatModel
from recollect_server.memory.fence import fenced
from recollect_server.memory.jobs import BadModelAnswer
from recollect_server.memory.model import Message, PromptMessage, Role, TextPart, plain_text
from recollect_server.memory.prompt import ModelParameters, Prompt

LONGEST_MESSAGE = 8000
"""Characters of one message that are shown to the model; the rest is left out, and marked."""


async def ask(
    model: ChatModel,
    name: str,
    system: str,
    text: str,
    most_tokens: int,
    output_schema: Mapping[str, Any] | None = None,
) -> str:
    """Return the model's answer to one message.

    Args:
        name: of the model, as the provider spells it.
        output_schema: the JSON Schema that the answer is to follow, for providers that can see to
            it; what comes is to be checked all the same.

    Raises:
        Unavailable, ResourceExhausted: the model does not answer now.
        BadModelAnswer: it answered with no text, or refused.
    """
    prompt = Prompt(
        model=name,
        system=system,
        tools=(),
        parameters=ModelParameters(max_tokens=most_tokens),
        messages=(PromptMessage(Role.USER, (TextPart(text),)),),
        output_schema_json=json.dumps(output_schema) if output_schema else "",
    )
    completion: Completion | None = None
    async with aclosing(model.stream(prompt)) as events:
        async for event in events:
            if isinstance(event, Completion):
                completion = event
    finished = (FinishReason.STOP, FinishReason.MAX_TOKENS)
    if completion is None or completion.finish_reason not in finished:
        raise BadModelAnswer("the model did not finish its answer")
    answer = plain_text(completion.parts).strip()
    if not answer:
        raise BadModelAnswer("the model answered with no text")
    return answer


async def ask_for_list(
    model: ChatModel,
    name: str,
    system: str,
    text: str,
    most_tokens: int,
    key: str,
    item: Mapping[str, Any],
) -> list[Any]:
    """Return the list under `key` of the JSON object that the model answers with.

    Args:
        key: the object's only property.
        item: JSON Schema of the list's items; they are not checked here.

    Raises:
        Unavailable, ResourceExhausted: the model does not answer now.
        BadModelAnswer: it answered with something else.
    """
    schema = object_schema({key: {"type": "array", "items": item}})
    answer = await ask(model, name, system, text, most_tokens, schema)
    # Servers that know no schema often put a sentence or a fence around the object.
    start, end = answer.find("{"), answer.rfind("}")
    try:
        items = json.loads(answer[start : end + 1])[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadModelAnswer(f"the model's {key} are not the JSON asked for") from None
    if not isinstance(items, list):
        raise BadModelAnswer(f"the model's {key} are no list")
    return items


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def clean(text: str) -> str:
    """Return a model's sentence as it may be stored: on one line, without what `fenced` put in."""
    plain = html.unescape(text).replace("\0", " ")
    return " ".join(plain.encode("utf-8", "replace").decode().split())


def transcript(messages: Sequence[Message]) -> str:
    """Return messages as numbered lines, each with its date and speaker."""
    return "\n".join(_line(message) for message in messages)


def _line(message: Message) -> str:
    speaker = message.author_name or message.role.name.lower()
    text = message.text
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[:LONGEST_MESSAGE]} [...]"
    # Continued lines are set in, so that no text can look like another message's line.
    text = "\n    ".join(text.splitlines())
    speaker = " ".join(speaker.split())
    return fenced(f"{message.sequence}. [{message.time:%Y-%m-%d}] {speaker}: {text}")
