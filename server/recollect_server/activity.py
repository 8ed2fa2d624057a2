"""How busy this process is with calls, and those it shares a file with, so that background work can
stand back."""

import asyncio
import mmap
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from struct import Struct

BUSY_CALLS = 20
BUSY_SECONDS = 0.2
PROBE_SECONDS = 0.1


_TIME = Struct("d")


class Activity:
    """Knows when calls were answered; streams do not count, they mostly wait.

    Args:
        shared: a file in which processes of one machine tell each other when one of them was busy
            last, in seconds of their common monotonic clock; made if it is missing.
    """

    __slots__ = ("_shared", "_times")

    def __init__(self, shared: Path | None = None) -> None:
        self._times: deque[float] = deque(maxlen=BUSY_CALLS)
        self._shared = None if shared is None else _map(shared)

    def answered(self) -> None:
        """Note that a call was answered now."""
        now = time.monotonic()
        self._times.append(now)
        if self._shared is not None and self._many(now):
            _TIME.pack_into(self._shared, 0, now)

    def busy(self) -> bool:
        """Whether calls need the processor themselves: 20 of them within the last 0.2 s.

        Those are calls of one process, this one or another.
        """
        now = time.monotonic()
        if self._many(now):
            return True
        # What lies ahead was written before the machine started anew.
        return self._shared is not None and 0 <= now - _told(self._shared) < BUSY_SECONDS

    def _many(self, now: float) -> bool:
        times = self._times
        return len(times) == BUSY_CALLS and now - times[0] < BUSY_SECONDS

    async def calm(
        self, longest: float, hurried: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        """Wait while it is busy; background work does so before each piece of it.

        Args:
            longest: seconds after which the piece is due all the same, so that nothing starves:
                many times what the piece takes, so that calls get most of the processor.
            hurried: whether somebody waits for the work; then there is no wait.
        """
        end = time.monotonic() + longest
        while self.busy() and (left := end - time.monotonic()) > 0:
            if hurried is not None and await hurried():
                return
            await asyncio.sleep(min(PROBE_SECONDS, left))


def _told(shared: mmap.mmap) -> float:
    last: float = _TIME.unpack_from(shared)[0]
    return last


def _map(path: Path) -> mmap.mmap:
    with path.open("a+b") as file:
        if file.tell() < _TIME.size:
            file.truncate(_TIME.size)
        return mmap.mmap(file.fileno(), _TIME.size)
