"""The key of the exact tier: a digest of everything that an answer depends on."""

import hashlib
from collections.abc import Iterable

from recollect_server.cache.model import CacheScope
from recollect_server.memory.model import (
    Part,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import Prompt
from recollect_server.scope import Scope

VERSION = "recollect-exact-1"


def _part_fields(part: Part) -> tuple[str, ...]:
    match part:
        case TextPart(text):
            return "text", text
        case ThinkingPart(text, signature):
            return "thinking", text, signature
        case ToolCallPart(call_id, name, input_json):
            return "call", call_id, name, input_json
        case ToolResultPart(call_id, text, is_error):
            return "result", call_id, text, str(is_error)


def _prompt_fields(prompt: Prompt) -> Iterable[str]:
    yield from (prompt.model, prompt.system, str(len(prompt.tools)))
    for tool in prompt.tools:
        yield from (tool.name, tool.description, tool.input_schema_json)
    parameters = prompt.parameters
    yield from (repr(parameters.temperature), repr(parameters.max_tokens))
    yield str(len(parameters.stop))
    yield from parameters.stop
    for message in prompt.messages:
        yield from ("message", message.role.name, str(len(message.parts)))
        for part in message.parts:
            yield from _part_fields(part)


def exact_key(scope: Scope, cache_scope: CacheScope, session_id: str, prompt: Prompt) -> str:
    """Return the entry id of a prompt in a scope: 64 hexadecimal digits of SHA-256.

    Every field is preceded by its length, so no two different requests have the same input.
    """
    owner = {
        CacheScope.USER: (scope.user_id, ""),
        CacheScope.SESSION: (scope.user_id, session_id),
        CacheScope.GLOBAL: ("", ""),
    }[cache_scope]
    digest = hashlib.sha256()
    for field in (VERSION, scope.tenant, cache_scope.name, *owner, *_prompt_fields(prompt)):
        data = field.encode()
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.hexdigest()
