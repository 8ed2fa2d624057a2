"""Episodes: stretches of sessions that ended."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from recollect_server.errors import NotFound, Reason
from recollect_server.ids import uuid7
from recollect_server.memory.model import Episode, NewEpisode
from recollect_server.memory.watch import ChangeType
from recollect_server.scope import Scope
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql.changes import ChangeLog
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.listed import listed
from recollect_server.stores.sql.messages import find_session
from recollect_server.stores.sql.pending import queue_episode
from recollect_server.stores.sql.rows import EPISODE_COLUMNS, GOES_ON, to_episode
from recollect_server.stores.sql.users import KEY_OF_USER, step_revision

_SELECT = (
    f"SELECT {EPISODE_COLUMNS} FROM episodes e JOIN sessions s "
    f"ON s.session_key = e.session_key WHERE e.user_key = {KEY_OF_USER} AND {GOES_ON} "
)


class SqlEpisodeStore:
    """Implements `memory.ports.EpisodeStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def save_episode(
        self,
        scope: Scope,
        session_id: str,
        episode: NewEpisode,
        session_time: datetime | None = None,
    ) -> Episode | None:
        """See `EpisodeStore`."""
        now = to_microseconds(self._clock())
        return await self._database.write(
            lambda tx: _save(tx, scope, session_id, episode, now, session_time), scope
        )

    async def get_episode(self, scope: Scope, episode_id: str) -> Episode:
        """See `EpisodeStore`."""
        found = await self.get_episodes(scope, (episode_id,))
        if not found:
            raise NotFound(Reason.EPISODE_NOT_FOUND, "episode", episode_id)
        return found[0]

    async def get_episodes(self, scope: Scope, episode_ids: tuple[str, ...]) -> tuple[Episode, ...]:
        """See `EpisodeStore`."""
        if not episode_ids:
            return ()
        wanted, params = listed([(episode_id,) for episode_id in episode_ids])
        rows = await self._database.read_rows(
            f"{_SELECT}AND e.episode_id IN ({wanted})",
            params
            | {
                "tenant": scope.tenant,
                "user_id": scope.user_id,
                "now": to_microseconds(self._clock()),
            },
        )
        found = {episode.episode_id: episode for episode in map(to_episode, rows)}
        return tuple(found[episode_id] for episode_id in episode_ids if episode_id in found)

    async def list_episodes(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        session_id: str = "",
    ) -> tuple[Episode, ...]:
        """See `EpisodeStore`."""
        params: dict[str, Any] = {
            "tenant": scope.tenant,
            "user_id": scope.user_id,
            "limit": limit,
            "now": to_microseconds(self._clock()),
        }
        clause = ""
        if session_id:
            clause = "AND s.session_id = :session_id "
            params["session_id"] = session_id
        if after is not None:
            clause += "AND (e.end_time, e.episode_id) < (:time, :name) "
            params |= {"time": to_microseconds(after[0]), "name": after[1]}

        def work(tx: Transaction) -> tuple[Episode, ...]:
            rows = tx.execute(
                f"{_SELECT}{clause}ORDER BY e.end_time DESC, e.episode_id DESC LIMIT :limit", params
            )
            return tuple(to_episode(row) for row in rows)

        return await self._database.read(work)


def _save(
    tx: Transaction,
    scope: Scope,
    session_id: str,
    episode: NewEpisode,
    now: int,
    session_time: datetime | None,
) -> Episode | None:
    user_key, revision = step_revision(tx, scope)
    session_key, session = find_session(tx, scope, session_id, now)
    if session_time not in (None, session.create_time):
        return None
    if session.episode_through != episode.first_sequence - 1:
        return None
    episode_id = uuid7()
    tx.execute(
        "INSERT INTO episodes (user_key, episode_id, session_key, user_revision, title, summary, "
        "model, first_sequence, last_sequence, start_time, end_time, create_time) VALUES "
        "(:user_key, :episode_id, :session_key, :revision, :title, :summary, :model, :first, "
        ":last, :start_time, :end_time, :now)",
        {
            "user_key": user_key,
            "episode_id": episode_id,
            "session_key": session_key,
            "revision": revision,
            "title": episode.title,
            "summary": episode.summary,
            "model": episode.model,
            "first": episode.first_sequence,
            "last": episode.last_sequence,
            "start_time": to_microseconds(episode.start_time),
            "end_time": to_microseconds(episode.end_time),
            "now": now,
        },
    )
    tx.execute(
        "UPDATE sessions SET episode_through = :last WHERE session_key = :session_key",
        {"last": episode.last_sequence, "session_key": session_key},
    )
    queue_episode(tx, user_key, revision, session_key, episode_id, now)
    ChangeLog(tx, user_key, revision, now).episode(ChangeType.CREATED, session_id, episode_id)
    return Episode(
        episode_id=episode_id,
        session_id=session_id,
        title=episode.title,
        summary=episode.summary,
        model=episode.model,
        first_sequence=episode.first_sequence,
        last_sequence=episode.last_sequence,
        start_time=episode.start_time,
        end_time=episode.end_time,
    )
