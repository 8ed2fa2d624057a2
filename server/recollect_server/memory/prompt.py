"""What a model is given: shared by the cache, which keys on it, and by chat, which sends it."""

from typing import Any

import msgspec
from msgspec import Struct

from recollect_server.memory.model import PromptMessage

MOST_JSON_DEPTH = 100
"""Deeper objects exhaust the stacks of those who pass them on."""


def is_json_object(text: str) -> bool:
    """Whether a text is a JSON object, as tools take and describe their arguments.

    One that can be passed on: NaN and half of a surrogate pair, which Python's own parser takes,
    are no JSON, and it is at most `MOST_JSON_DEPTH` deep.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(value, dict) and _is_shallow(value)


def _is_shallow(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(MOST_JSON_DEPTH):
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [child for each in inside for child in each if isinstance(child, dict | list)]
    return not level


class Tool(Struct, frozen=True):
    """A tool the model may call; `input_schema_json` is a JSON Schema object as text."""

    name: str
    description: str
    input_schema_json: str


class ModelParameters(Struct, frozen=True):
    """Sampling parameters; None leaves the provider's default.

    Attributes:
        temperature: 0 to 2.
        max_tokens: upper bound of the reply, in the model's tokens.
        stop: texts that end the reply.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


class Prompt(Struct, frozen=True):
    """A whole request to a model, oldest message first.

    Attributes:
        memory: what was recalled for the newest message. It is apart from the system prompt
            because it changes with every turn: providers put it where it leaves their prompt
            caches valid.
        output_schema_json: the JSON Schema that the reply's text must follow; "" for free text.
    """

    model: str
    system: str
    tools: tuple[Tool, ...]
    parameters: ModelParameters
    messages: tuple[PromptMessage, ...]
    memory: str = ""
    output_schema_json: str = ""


class Usage(Struct, frozen=True):
    """Tokens of a model call as the provider counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """All that the model read and wrote."""
        read = self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
        return read + self.output_tokens
