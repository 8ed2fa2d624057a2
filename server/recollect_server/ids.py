"""Ids made by the server: UUIDv7 of RFC 9562, so that later ones sort after earlier ones."""

import secrets
import threading
import time

_RANDOM_BITS = 74
_lock = threading.Lock()
_last_milliseconds = 0
_last_random = 0


def uuid7() -> str:
    """Return a UUIDv7 as text; ids made by one process rise strictly."""
    global _last_milliseconds, _last_random
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_milliseconds:
            _last_milliseconds = now
            # The highest bit stays free, so that ids of the same millisecond can count up.
            _last_random = secrets.randbits(_RANDOM_BITS - 1)
        else:
            _last_random += 1
        milliseconds, random = _last_milliseconds, _last_random
    high, low = random >> 62, random & ((1 << 62) - 1)
    value = milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
