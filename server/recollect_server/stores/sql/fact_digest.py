"""The digest by which facts of the same words are found."""

import hashlib

from recollect_server.memory.statements import normal_form

DIGEST_BYTES = 16


def digest(text: str) -> bytes:
    """Return BLAKE2b of a statement's normal form, 16 bytes."""
    return hashlib.blake2b(normal_form(text).encode(), digest_size=DIGEST_BYTES).digest()
