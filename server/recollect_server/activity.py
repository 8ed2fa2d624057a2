"""How busy the process is with calls, so that background work can stand back."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

BUSY_CALLS = 20
BUSY_SECONDS = 0.2
PROBE_SECONDS = 0.1


class Activity:
    """Knows when calls were answered; streams do not count, they mostly wait."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=BUSY_CALLS)

    def answered(self) -> None:
        """Note that a call was answered now."""
        self._times.append(time.monotonic())

    def busy(self) -> bool:
        """Whether calls need the processor themselves: 20 of them within the last 0.2 s."""
        times = self._times
        return len(times) == BUSY_CALLS and time.monotonic() - times[0] < BUSY_SECONDS

    async def calm(
        self, longest: float, hurried: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        """Wait while the process is busy; background work does so before each piece of it.

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
