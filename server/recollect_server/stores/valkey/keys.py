"""Names of keys in Valkey and Redis.

Ids enter a key only as a digest of their length-prefixed parts, so that no id can collide with
another or break out of its place. Keys of one session share a hash tag and so one cluster slot;
a cache entry is a key of its own and entries spread over all slots. The keys of a user's sessions
begin with a digest of the user, so that all of them can be found when the user is erased.
"""

import hashlib

from recollect_server.scope import Scope

PREFIX = "rc2:"
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
    return session_key(scope, session_id, "window")


ENTRY_PREFIX = f"{PREFIX}entry:"
"""Starts the keys of cache entries, and of nothing else: search indexes go by it."""


def entry_key(tenant: str, entry_id: str) -> str:
    """Key of an entry of the answer cache; untagged."""
    return f"{ENTRY_PREFIX}{digest('entry', tenant, entry_id)}"


def register_tag(tenant: str, user_id: str, shard: int) -> str:
    """Hash tag of a register: the list of a shard of an owner's cache entries."""
    return digest("register", tenant, user_id, str(shard))


def register_key(tag: str, part: str) -> str:
    """Key of a part of a register."""
    return f"{PREFIX}{{{tag}}}:entries:{part}"


def registers_key(tag: str) -> str:
    """Key of the list that has a register, by when its last entry ends."""
    return f"{PREFIX}registers:{tag[:2]}"


def register_list_keys() -> list[str]:
    """Keys of all lists of registers; there are many, so that none is hot."""
    return [f"{PREFIX}registers:{number:02x}" for number in range(256)]


def session_key(scope: Scope, session_id: str, part: str) -> str:
    """Key of a part of a session, tagged with the user and the session."""
    tag = digest("session", scope.tenant, scope.user_id, session_id)
    return f"{PREFIX}{{{user_mark(scope).hex()}{tag}}}:{part}"


def session_keys(scope: Scope) -> str:
    """Pattern of SCAN for the keys of all of a user's sessions."""
    return f"{PREFIX}{{{user_mark(scope).hex()}*"


def flight_key(tenant: str, key: str) -> str:
    """Key of the claim to a model call; untagged."""
    return f"{PREFIX}flight:{digest('flight', tenant, key)}"


NOTICE_CHANNEL = f"{PREFIX}changes"
"""Where processes tell each other whose memory changed."""


def user_mark(scope: Scope) -> bytes:
    """Return 16 bytes that stand for a user in a notice, in keys and in entries."""
    return bytes.fromhex(digest("user", scope.tenant, scope.user_id))


def bucket_key(owner: Scope, limit: str) -> str:
    """Key of the bucket of a limit; untagged, as each is asked for alone."""
    return f"{PREFIX}limit:{digest('limit', owner.tenant, owner.user_id, limit)}"
