"""What time does to the store: sessions end, old records go, idle sessions become episodes.

Every step takes a bounded bite, so that no call waits long behind it, and several processes may do
it at once.
"""

from collections.abc import Callable
from datetime import datetime

from recollect_server.memory.due import DuePolicy, JobKind
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql import changes, requests
from recollect_server.stores.sql.changes import ChangeLog
from recollect_server.stores.sql.clock import bring_back
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.deletion import delete_session
from recollect_server.stores.sql.jobs import queue_job
from recollect_server.stores.sql.rows import duration_us
from recollect_server.stores.sql.users import step_key

CLOCK_SKEW = 60 * 1_000_000
"""Microseconds that sessions stay after their end, refused by every read: a process whose clock is
ahead must not delete what lives by the others' clocks."""

BITE = 500
SESSIONS_AT_ONCE = 20
_NOT_IMPORTED = "NOT IN (SELECT user_key FROM imports)"
"""Users who are being imported are not there yet."""


class SqlUpkeep:
    """Implements `memory.upkeep.Upkeep`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime], policy: DuePolicy
    ) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy

    async def run_upkeep(self) -> bool:
        """See `Upkeep`."""
        now = to_microseconds(self._clock())
        await self._database.write(lambda tx: bring_back(tx, now))
        idle_since = now - duration_us(self._policy.episode_idle)
        more = await self._database.write(lambda tx: _end_sessions(tx, now - CLOCK_SKEW, now))
        more |= await self._database.write(lambda tx: _queue_episodes(tx, idle_since, now))
        more |= await self._database.write(
            lambda tx: _prune_requests(tx, now - requests.KEPT_MICROSECONDS)
        )
        more |= await self._database.write(
            lambda tx: _prune_changes(tx, now - changes.KEPT_MICROSECONDS)
        )
        return more


def _end_sessions(tx: Transaction, ended_at: int, now: int) -> bool:
    rows = tx.execute(
        "SELECT user_key, session_key FROM sessions WHERE ends <= :now "
        f"AND user_key {_NOT_IMPORTED} ORDER BY ends LIMIT :bite",
        {"now": ended_at, "bite": SESSIONS_AT_ONCE},
    )
    # Users are locked in one order, so that two processes cannot wait for each other.
    for user_key, session_key in sorted(rows):
        revision = step_key(tx, user_key)
        ended = tx.execute(
            "SELECT session_id FROM sessions WHERE session_key = :session_key AND ends <= :now",
            {"session_key": session_key, "now": ended_at},
        )
        if ended:
            log = ChangeLog(tx, user_key, revision, now)
            delete_session(tx, log, session_key, ended[0][0])
    return len(rows) == SESSIONS_AT_ONCE


def _queue_episodes(tx: Transaction, idle_since: int, now: int) -> bool:
    rows = tx.execute(
        "SELECT s.user_key, s.session_key FROM sessions s "
        "WHERE s.last_sequence > s.episode_through AND s.update_time <= :idle_since "
        f"AND s.user_key {_NOT_IMPORTED} "
        "AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.kind = :kind "
        "AND j.user_key = s.user_key AND j.session_key = s.session_key) "
        "LIMIT :bite",
        {"idle_since": idle_since, "kind": str(JobKind.EPISODE), "bite": BITE},
    )
    for user_key, session_key in rows:
        queue_job(tx, JobKind.EPISODE, user_key, session_key, now)
    return len(rows) == BITE


def _prune_requests(tx: Transaction, before: int) -> bool:
    gone = tx.execute(
        "DELETE FROM requests WHERE (tenant, user_id, method, request_id) IN "
        "(SELECT tenant, user_id, method, request_id FROM requests "
        "WHERE create_time < :before LIMIT :bite) RETURNING 1",
        {"before": before, "bite": BITE},
    )
    return len(gone) == BITE


def _prune_changes(tx: Transaction, before: int) -> bool:
    """Remove old changes, and remember how far: a token before that is refused."""
    rows = tx.execute(
        "SELECT user_key, MAX(user_revision) FROM (SELECT user_key, user_revision FROM changes "
        "WHERE time < :before ORDER BY time LIMIT :bite) AS old GROUP BY user_key "
        "ORDER BY user_key",
        {"before": before, "bite": BITE},
    )
    for user_key, revision in rows:
        params = {"user_key": user_key, "revision": revision}
        tx.execute(
            "UPDATE users SET pruned_revision = :revision "
            "WHERE user_key = :user_key AND pruned_revision < :revision",
            params,
        )
        tx.execute(
            "DELETE FROM changes WHERE user_key = :user_key AND user_revision <= :revision", params
        )
    return bool(rows)
