"""How busy the process is with calls, so that background work can stand back."""

BUSY_CALLS = 4


class Activity:
    """Counts the calls that run; streams do not count, they mostly wait.

    Attributes:
        calls: how many run now.
    """

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    @property
    def busy(self) -> bool:
        """Whether so many calls run at once that they need the processor for themselves."""
        return self.calls >= BUSY_CALLS
