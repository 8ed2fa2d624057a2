"""When a session has background work: a summary to make, facts to extract, an episode to close."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class JobKind(StrEnum):
    """What a background job does."""

    EMBED = "embed"
    SUMMARIZE = "summarize"
    EXTRACT = "extract"
    EPISODE = "episode"
    FORGET = "forget"
    REINDEX = "reindex"


@dataclass(frozen=True, slots=True)
class DuePolicy:
    """When background work of a session is due.

    Attributes:
        summary_recent: messages that a summary leaves alone; with more than twice as many
            unsummarised the older ones are summarised.
        summary_tokens: estimated tokens of unsummarised messages beyond which they are, too.
        extract_every: facts are extracted when so many messages have not been read for them.
        episode_idle: a session idle for so long has ended a stretch, which becomes an episode.
    """

    summary_recent: int = 6
    summary_tokens: int = 2000
    extract_every: int = 10
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

    def summary_becomes_due(
        self, messages_before: int, tokens_before: int, messages_after: int, tokens_after: int
    ) -> bool:
        """Whether an append makes a summary due that was not, or that has been due for long.

        Args:
            messages_before: number of messages after the summary before the append.
            tokens_before: their estimated tokens.
        """
        if not self.summary_is_due(messages_after, tokens_after):
            return False
        most = 2 * self.summary_recent
        later = messages_after // most > messages_before // most
        return later or not self.summary_is_due(messages_before, tokens_before)

    def extraction_becomes_due(self, unread_before: int, unread_after: int) -> bool:
        """Whether an append brings the messages not read for facts to a multiple of the limit."""
        return unread_after // self.extract_every > unread_before // self.extract_every
