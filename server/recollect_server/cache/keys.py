"""Digests of what an answer depends on: equal where it must be equal, and nowhere else.

Every field is preceded by its length, so no two different inputs are digested from the same bytes.
"""

import hashlib
from collections.abc import Iterable, Sequence

from recollect_server.cache.dialogue import Dialogue
from recollect_server.cache.model import CacheScope, Partition
from recollect_server.memory.model import (
    Part,
    PromptMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import Prompt
from recollect_server.scope import Scope

VERSION = "recollect-exact-2"


def partition_of(scope: Scope, cache_scope: CacheScope, session_id: str) -> Partition:
    """Return where answers of a scope belong."""
    user_id = "" if cache_scope is CacheScope.GLOBAL else scope.user_id
    session = session_id if cache_scope is CacheScope.SESSION else ""
    return Partition(Scope(scope.tenant, user_id), cache_scope, session)


def exact_key(partition: Partition, prompt: Prompt) -> str:
    """Return the entry id of a prompt in a partition: 64 hexadecimal digits of SHA-256."""
    return _digest("exact", *_owner(partition), prompt.model, *_asked(prompt))


def same_key(partition: Partition, prompt: Prompt) -> str:
    """Return what the prompts of all models share that are the same but for the model."""
    return _digest("same", *_owner(partition), *_asked(prompt))


def group_key(partition: Partition, prompt: Prompt, dialogue: Dialogue, embedder: str) -> str:
    """Return the digest of all that must be equal for a semantic hit, but for the model."""
    return _digest("group", *_owner(partition), embedder, *_setting(prompt), *_rest(dialogue))


def model_key(group: str, model: str) -> str:
    """Return the digest of a group and the model in it."""
    return _digest("model", group, model)


def question_key(dialogue: Dialogue) -> str:
    """Return the digest of a conversation: who said what."""
    turns = zip(dialogue.roles, dialogue.texts, strict=True)
    fields = (field for role, text in turns for field in (role.name, text))
    return _digest("question", *fields, "rest", *_rest(dialogue))


def answer_key(answer: Iterable[Part]) -> str:
    """Return the digest of an answer."""
    return _digest("answer", *(field for part in answer for field in part_fields(part)))


def part_fields(part: Part) -> tuple[str, ...]:
    """Return a part as texts; different parts have different ones."""
    match part:
        case TextPart(text):
            return "text", text
        case ThinkingPart(text, signature):
            return "thinking", text, signature
        case ToolCallPart(call_id, name, input_json):
            return "call", call_id, name, input_json
        case ToolResultPart(call_id, text, is_error):
            return "result", call_id, text, str(is_error)


def _owner(partition: Partition) -> tuple[str, ...]:
    owner = partition.owner
    return owner.tenant, partition.scope.name, owner.user_id, partition.session_id


def _setting(prompt: Prompt) -> Iterable[str]:
    yield from (prompt.system, str(len(prompt.tools)))
    for tool in prompt.tools:
        yield from (tool.name, tool.description, tool.input_schema_json)
    parameters = prompt.parameters
    yield from (repr(parameters.temperature), repr(parameters.max_tokens))
    yield str(len(parameters.stop))
    yield from parameters.stop


def _asked(prompt: Prompt) -> Iterable[str]:
    yield from _setting(prompt)
    yield from _messages(prompt.messages)


def _messages(messages: Sequence[PromptMessage]) -> Iterable[str]:
    for message in messages:
        yield from ("message", message.role.name, str(len(message.parts)))
        for part in message.parts:
            yield from part_fields(part)


def _rest(dialogue: Dialogue) -> Iterable[str]:
    for position, message in dialogue.rest:
        yield str(position)
        yield from _messages([message])


def _digest(*fields: str) -> str:
    encoded = [field.encode() for field in (VERSION, *fields)]
    lengthened = (part for data in encoded for part in (len(data).to_bytes(8), data))
    return hashlib.sha256(b"".join(lengthened)).hexdigest()
