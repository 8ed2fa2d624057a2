"""Digests of what an answer depends on: equal where it must be equal, and nowhere else.

What is digested is MessagePack, which tells kinds and lengths, so no two different inputs are
digested from the same bytes. The names of fields are in it: what was reported of answers is found
by such digests, and forgotten when one of them is renamed.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from recollect_server.cache.dialogue import Dialogue
from recollect_server.cache.model import CacheScope, Partition
from recollect_server.memory.model import Part, ThinkingPart
from recollect_server.memory.prompt import Prompt
from recollect_server.scope import Scope

VERSION = "recollect-exact-3"

_encoder = msgspec.msgpack.Encoder()


def partition_of(scope: Scope, cache_scope: CacheScope, session_id: str) -> Partition:
    """Return where answers of a scope belong."""
    user_id = "" if cache_scope is CacheScope.GLOBAL else scope.user_id
    session = session_id if cache_scope is CacheScope.SESSION else ""
    return Partition(Scope(scope.tenant, user_id), cache_scope, session)


def exact_key(partition: Partition, prompt: Prompt) -> str:
    """Return the entry id of a prompt in a partition: 64 hexadecimal digits of SHA-256."""
    return _digest("exact", partition, prompt.model, *_setting(prompt), prompt.messages)


def same_key(partition: Partition, prompt: Prompt) -> str:
    """Return what the prompts of all models share that are the same but for the model."""
    return _digest("same", partition, *_setting(prompt), prompt.messages)


def group_key(partition: Partition, prompt: Prompt, dialogue: Dialogue, embedder: str) -> str:
    """Return the digest of all that must be equal for a semantic hit, but for the model."""
    return _digest("group", partition, embedder, *_setting(prompt), dialogue.rest)


def model_key(group: str, model: str) -> str:
    """Return the digest of a group and the model in it."""
    return _digest("model", group, model)


def question_key(dialogue: Dialogue) -> str:
    """Return the digest of a conversation: who said what."""
    return _digest("question", dialogue.roles, dialogue.texts, dialogue.rest)


def answer_key(answer: Iterable[Part]) -> str:
    """Return the digest of an answer, whatever the model thought before it."""
    return _digest("answer", tuple(part for part in answer if not isinstance(part, ThinkingPart)))


def _setting(prompt: Prompt) -> tuple[Any, ...]:
    return prompt.system, prompt.tools, prompt.parameters


def _digest(*fields: Any) -> str:
    return hashlib.sha256(_encoder.encode((VERSION, *fields))).hexdigest()
