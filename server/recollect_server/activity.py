"""How busy the process is with calls, so that background work can stand back."""

BUSY_CALLS_PER_SECOND = 100.0


class Activity:
    """Counts the calls that were answered; streams do not count, they mostly wait.

    Attributes:
        answered: how many so far.
    """

    __slots__ = ("answered",)

    def __init__(self) -> None:
        self.answered = 0

    def was_busy(self, answered_before: int, seconds: float) -> bool:
        """Whether, since a count that many seconds ago, calls needed the processor themselves."""
        return self.answered - answered_before > BUSY_CALLS_PER_SECOND * seconds
