"""Names of keys in Valkey and Redis.

Ids enter a key only as a digest of their length-prefixed parts, so that no id can collide with
another or break out of its place. Keys of one session share a hash tag and so one cluster slot;
a cache entry is a key of its own and entries spread over all slots.
"""

import hashlib

from recollect_server.scope import Scope

PREFIX = "rc1:"
"""Starts every key; its number changes when the layout does."""

DIGEST_BYTES = 16


def digest(*parts: str) -> str:
    """Return 32 hexadecimal digits of BLAKE2b; different parts have different input.

    Every part is preceded by its length in bytes, so `("a", "bc")` and `("ab", "c")` differ.
    """
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8))
        state.update(data)
    return state.hexdigest()


def window_key(scope: Scope, session_id: str) -> str:
    """Key of a session's recent window, tagged with the session."""
    tag = digest("session", scope.tenant, scope.user_id, session_id)
    return f"{PREFIX}{{{tag}}}:window"


def entry_key(tenant: str, entry_id: str) -> str:
    """Key of an answer in the exact tier; untagged."""
    return f"{PREFIX}answer:{digest('answer', tenant, entry_id)}"


def session_key(scope: Scope, session_id: str, part: str) -> str:
    """Key of a part of an ephemeral session, tagged with the session."""
    tag = digest("session", scope.tenant, scope.user_id, session_id)
    return f"{PREFIX}{{{tag}}}:{part}"


def flight_key(tenant: str, key: str) -> str:
    """Key of the claim to a model call; untagged."""
    return f"{PREFIX}flight:{digest('flight', tenant, key)}"


NOTICE_CHANNEL = f"{PREFIX}changes"
"""Where processes tell each other whose memory changed."""


def user_mark(scope: Scope) -> bytes:
    """Return 16 bytes that stand for a user in a notice."""
    return bytes.fromhex(digest("user", scope.tenant, scope.user_id))
