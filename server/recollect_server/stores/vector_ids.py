"""Names of points and their owners in vector stores that others may share.

Ids enter an id or a filter only as a digest of their length-prefixed parts, so that no id can
collide with another or be read as part of a query.
"""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from recollect_server.memory.model import MemoryKind
from recollect_server.memory.vector_store import VectorPoint
from recollect_server.scope import Scope
from recollect_server.stores.codec import to_microseconds


def owner_digest(scope: Scope) -> str:
    """Return what stands for a user of a tenant, 32 hexadecimal digits."""
    return _digest("user", scope.tenant, scope.user_id).hex()


def session_digest(scope: Scope, session_id: str) -> str:
    """Return what stands for a session."""
    return _digest("session", scope.tenant, scope.user_id, session_id).hex()


def item_digest(scope: Scope, kind: MemoryKind, item_id: str) -> str:
    """Return what stands for an item."""
    return _digest("item", scope.tenant, scope.user_id, str(int(kind)), item_id).hex()


def point_id(item: str, passage: int) -> str:
    """Return the id of a vector of an item, a UUID; always the same, so a repeat stores no other.

    Args:
        item: as `item_digest` returns it.
    """
    return str(uuid.UUID(bytes=_digest("point", item, str(passage))))


def passages(scope: Scope, points: Sequence[VectorPoint]) -> dict[str, int]:
    """Return how many passages each item has now, by the item's digest."""
    found: dict[str, int] = defaultdict(int)
    for point in points:
        item = item_digest(scope, point.kind, point.item_id)
        found[item] = max(found[item], point.passage + 1)
    return found


def named_payload(scope: Scope, point: VectorPoint) -> tuple[str, dict[str, Any]]:
    """Return a point's id, and what is stored beside its vector to find it by."""
    item = item_digest(scope, point.kind, point.item_id)
    payload = {
        "owner": owner_digest(scope),
        "session": session_digest(scope, point.session_id),
        "item": item,
        "item_id": point.item_id,
        "kind": int(point.kind),
        "passage": point.passage,
        "time": to_microseconds(point.time),
    }
    return point_id(item, point.passage), payload


def _digest(*parts: str) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8))
        state.update(data)
    return state.digest()
