"""Memory that is free and kept: what glibc is told, so that a process does not hold on to it.

Other C libraries are left as they are. What the environment says (MALLOC_ARENA_MAX and the like,
mallopt(3)) counts more.
"""

import ctypes
import os
import threading
from collections.abc import Callable

_libc = ctypes.CDLL(None)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""See malloc.h."""

OPTIONS = {
    # Each arena keeps the most that was ever in use of it: with one for each thread, half of a
    # busy server's memory came to be free and kept.
    "MALLOC_ARENA_MAX": (M_ARENA_MAX, 2),
    # By itself glibc raises these with each large block that is freed, until an arena keeps up to
    # 64 MiB at its end. Blocks that come and go are not worth mapping each time.
    "MALLOC_MMAP_THRESHOLD_": (M_MMAP_THRESHOLD, 8 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": (M_TRIM_THRESHOLD, 8 * 2**20),
}

RETURN_SECONDS = 60.0


def keep_little() -> None:
    """Let threads share two arenas that keep 8 MiB at their ends."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        for variable, (option, value) in OPTIONS.items():
            if variable not in os.environ:
                mallopt(option, value)


def return_memory(seconds: float = RETURN_SECONDS) -> None:
    """From now on give free pages back to the system at intervals, in a thread of its own.

    By itself glibc gives back only what lies at the end of an arena. Between what is in use, the
    largest requests of all times leave holes that nothing smaller fills. Looking through some 200
    MiB takes 4 ms, and 10 more where half of it goes back; who allocates meanwhile may wait.
    """
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        threading.Thread(
            target=_return, args=(trim, seconds), name="allocator", daemon=True
        ).start()


def _return(trim: Callable[[int], object], seconds: float) -> None:
    never = threading.Event()
    # Unlike a sleep it bears a clock that jumps.
    while not never.wait(seconds):
        trim(0)
