"""When a session has background work: a summary to make, facts to extract, an episode to close."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class JobKind(StrEnum):
    """What a background job does."""

    EMBED = "embed"
    SUMMARIZE = "summarize"
    EPISODE = "episode"


@dataclass(frozen=True, slots=True)
class DuePolicy:
    """When background work of a session is due.

    Attributes:
        summary_recent: messages that a summary leaves alone; with more than twice as many
            unsummarised the older ones are summarised.
        summary_tokens: estimated tokens of unsummarised messages beyond which they are, too.
        episode_idle: a session idle for so long has ended a stretch, which becomes an episode.
    """

    summary_recent: int = 6
    summary_tokens: int = 2000
    episode_idle: timedelta = timedelta(minutes=30)

    def summary_is_due(self, open_messages: int, open_tokens: int) -> bool:
        """Whether messages without a summary are too many, or too long.

        Args:
            open_messages: number of messages after the summary.
            open_tokens: their estimated tokens.
        """
        if open_messages <= self.summary_recent:
            return False
        return open_messages > 2 * self.summary_recent or open_tokens > self.summary_tokens
