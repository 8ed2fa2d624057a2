"""How busy the process is with calls, so that background work can stand back."""

import time
from collections import deque

BUSY_CALLS = 20
BUSY_SECONDS = 0.2


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
