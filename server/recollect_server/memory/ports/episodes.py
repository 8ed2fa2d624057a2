"""The store of episodes."""

from datetime import datetime
from typing import Protocol

from recollect_server.memory.model import Episode, NewEpisode
from recollect_server.scope import Scope


class EpisodeStore(Protocol):
    """Episodes, durable when a call returns."""

    async def save_episode(
        self,
        scope: Scope,
        session_id: str,
        episode: NewEpisode,
        session_time: datetime | None = None,
    ) -> Episode | None:
        """Store the session's next episode, with the job that embeds it.

        Args:
            session_time: as in `SessionStore.save_summary`.

        Returns:
            None, with nothing stored, if it does not follow the session's last one.

        Raises:
            NotFound: SESSION_NOT_FOUND.
        """

    async def get_episode(self, scope: Scope, episode_id: str) -> Episode:
        """Return the episode. Raises `NotFound` with EPISODE_NOT_FOUND."""

    async def get_episodes(self, scope: Scope, episode_ids: tuple[str, ...]) -> tuple[Episode, ...]:
        """Return those that exist, in the ids' order."""

    async def list_episodes(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        session_id: str = "",
    ) -> tuple[Episode, ...]:
        """Return episodes, latest end first, after (end_time, episode_id).

        Args:
            session_id: only episodes of this session; "" for all.
        """
