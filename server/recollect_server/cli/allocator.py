"""Memory that is free and kept: what glibc is told, so that a process does not hold on to it.

Other C libraries are left as they are.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable

M_ARENA_MAX = -8
"""See mallopt(3)."""
MOST_ARENAS = 2
RETURN_SECONDS = 60.0

_libc = ctypes.CDLL(None)


def share_arenas() -> None:
    """Let threads allocate from two arenas, not each from its own, unless the environment says how
    many.

    Each arena keeps the most that was ever in use of it: with one for each thread, half of a busy
    server's memory came to be free and kept.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(M_ARENA_MAX, MOST_ARENAS)


def return_memory(seconds: float = RETURN_SECONDS) -> None:
    """From now on give free pages back to the system at intervals, in a thread of its own.

    glibc gives back only what lies at the end of an arena. Between what is in use, the largest
    requests of all times leave holes that nothing smaller fills. Looking through some 200 MiB takes
    4 ms, and 10 more where half of it goes back; who allocates meanwhile may wait for as long.
    """
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        threading.Thread(
            target=_return, args=(trim, seconds), name="allocator", daemon=True
        ).start()


def _return(trim: Callable[[int], object], seconds: float) -> None:
    while True:
        time.sleep(seconds)
        trim(0)
