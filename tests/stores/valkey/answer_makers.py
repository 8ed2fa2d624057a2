"""Stored answers for tests."""

from datetime import UTC, datetime, timedelta

import numpy as np
from msgspec.structs import replace

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.model import CacheEntry, CacheScope, Partition, StoredAnswer
from recollect_server.memory.model import (
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    Vector,
)
from recollect_server.memory.prompt import Usage
from recollect_server.scope import Scope
from recollect_server.stores.valkey.keys import digest

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=UTC)
DIMENSIONS = 24

ENTRY = CacheEntry(
    entry_id="0f" * 32,
    scope=CacheScope.SESSION,
    user_id="Zoë\0",
    session_id="s{1}\n",
    model="claude-opus-4-8",
    question="Wie spät ist es? 🕰️",
    answer=(
        TextPart("12 Uhr \0"),
        ThinkingPart("…", signature="sig"),
        ToolCallPart("c", "clock", "{}"),
        ToolResultPart("c", "noon", is_error=False),
    ),
    usage=Usage(1, 2, 3, 4),
    tags=("zeit", ""),
    cited_fact_ids=("f1", "f2"),
    holds_memory=True,
    create_time=NOW,
    expire_time=NOW + timedelta(minutes=30),
)


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def unit(*values: float) -> Vector:
    """Return a unit vector that begins with these values."""
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector).astype(np.float32)


def group_of(owner: Scope, topic: str = "") -> str:
    """Return a group of an owner's, as `cache.keys` makes them: 64 hexadecimal digits."""
    return digest("test", owner.tenant, owner.user_id, topic) * 2


def answer_of(
    owner: Scope,
    number: int,
    vector: Vector | None = None,
    *,
    topic: str = "",
    scope: CacheScope = CacheScope.USER,
    session_id: str = "",
    tags: tuple[str, ...] = (),
    facts: tuple[str, ...] = (),
    ttl: timedelta = timedelta(minutes=30),
    text: str = "yes",
) -> StoredAnswer:
    """Return the answer `number` of an owner; its id is spread over registers."""
    group = group_of(owner, topic)
    entry = replace(
        ENTRY,
        entry_id=f"{number * 2654435761 % 2**32:08x}" + f"{number:056x}",
        scope=scope,
        user_id=owner.user_id,
        session_id=session_id,
        answer=(TextPart(text),),
        tags=tags,
        cited_fact_ids=facts,
        expire_time=NOW + ttl,
    )
    stored = StoredAnswer(
        entry, f"{number:064x}", f"{number + 2**200:064x}", group, group_of(owner, f"{topic}.m")
    )
    if vector is None:
        return stored
    rows = np.stack([unit(1), unit(0.6, 0.8)]).astype(np.float16).astype(np.float32)
    spoken = Conversation((Role.ASSISTANT, Role.USER), ("hm", f"q{number} 🕰️"), rows, "m")
    return replace(stored, conversation=spoken, candidate=vector)


def partition_of(answer: StoredAnswer, owner: Scope) -> Partition:
    """Return where an answer belongs."""
    return answer.entry.partition(owner.tenant)
