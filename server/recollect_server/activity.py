"""How busy calls keep this process, and others that share its file, so that background work can
stand back."""

import asyncio
import mmap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from struct import Struct

BUSY_SHARE = 0.25
"""Of a core, taken by the event loop: hundreds of short calls a second, or many streams. What is
done in the background takes a few hundredths there."""

SAMPLE_SECONDS = 0.05
BUSY_SECONDS = 0.1
"""How long a busy moment counts."""

_TIME = Struct("d")


class Activity:
    """Knows whether calls need the processor themselves: `run` must be running beside them.

    Args:
        shared: a file in which processes of one machine tell each other when one of them was busy
            last, in seconds of their common monotonic clock; made if it is missing.
    """

    __slots__ = ("_busy_until", "_shared")

    def __init__(self, shared: Path | None = None) -> None:
        self._busy_until = 0.0
        self._shared = None if shared is None else _map(shared)

    async def run(self) -> None:
        """Watch how much of the processor this event loop takes, until cancelled."""
        seen, taken = time.monotonic(), time.thread_time()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            before, had = seen, taken
            seen, taken = time.monotonic(), time.thread_time()
            if taken - had >= BUSY_SHARE * (seen - before):
                self._note(seen)

    def busy(self) -> bool:
        """Whether calls keep a process busy, this one or another."""
        now = time.monotonic()
        if now < self._busy_until:
            return True
        # What lies ahead was written before the machine started anew.
        return self._shared is not None and 0 <= now - _told(self._shared) < BUSY_SECONDS

    def _note(self, now: float) -> None:
        self._busy_until = now + BUSY_SECONDS
        if self._shared is not None:
            _TIME.pack_into(self._shared, 0, now)

    async def calm(
        self, longest: float, hurried: Callable[[], Awaitable[bool]] | None = None
    ) -> bool:
        """Wait while it is busy; background work does so before each piece of it.

        Args:
            longest: seconds after which the piece is due all the same, so that nothing starves:
                many times what the piece takes, so that calls get most of the processor.
            hurried: whether somebody waits for the work; then there is no wait.

        Returns:
            False if the piece is due only because the time is over: it is to be a small one.
        """
        end = time.monotonic() + longest
        while self.busy():
            left = end - time.monotonic()
            if left <= 0:
                return False
            if hurried is not None and await hurried():
                return True
            await asyncio.sleep(min(SAMPLE_SECONDS, left))
        return True


def _told(shared: mmap.mmap) -> float:
    last: float = _TIME.unpack_from(shared)[0]
    return last


def _map(path: Path) -> mmap.mmap:
    with path.open("a+b") as file:
        if file.tell() < _TIME.size:
            file.truncate(_TIME.size)
        return mmap.mmap(file.fileno(), _TIME.size)
