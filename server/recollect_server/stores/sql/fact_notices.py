"""Notices of facts and sessions changed or gone, written with that change; `memory.forgetting`."""

from collections.abc import Sequence

from recollect_server.memory.due import JobKind
from recollect_server.memory.forgetting import Gone
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.jobs import queue_job
from recollect_server.stores.sql.users import find_user

SESSION = "session/"
"""Stands before a session's id in the column of facts' ids. A fact whose id begins so is taken for
both: at worst answers fall that need not."""


def note_session(tx: Transaction, user_key: int, revision: int, session_id: str, now: int) -> None:
    """Write a notice of a deleted session, and the job that passes it on."""
    note_facts(tx, user_key, revision, [SESSION + session_id], now)


def note_facts(
    tx: Transaction, user_key: int, revision: int, fact_ids: Sequence[str], now: int
) -> None:
    """Write notices, and the job that passes them on."""
    if not fact_ids:
        return
    tx.execute_many(
        "INSERT INTO fact_notices (user_key, user_revision, fact_id) "
        "VALUES (:user_key, :revision, :fact_id) ON CONFLICT DO NOTHING",
        [{"user_key": user_key, "revision": revision, "fact_id": f} for f in fact_ids],
    )
    queue_job(tx, JobKind.FORGET, user_key, 0, now)


class SqlNotices:
    """Implements `memory.forgetting.Notices`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def notices(self, scope: Scope, limit: int) -> Gone:
        """See `Notices`."""

        def work(tx: Transaction) -> Gone:
            user = find_user(tx, scope)
            if user is None:
                return Gone()
            oldest = tx.execute(
                "SELECT user_revision FROM fact_notices WHERE user_key = :user_key "
                "ORDER BY user_revision LIMIT :limit",
                {"user_key": user[0], "limit": limit},
            )
            if not oldest:
                return Gone()
            # Whole revisions, or notices of the last one would be removed unread.
            through: int = oldest[-1][0]
            rows = tx.execute(
                "SELECT DISTINCT fact_id FROM fact_notices "
                "WHERE user_key = :user_key AND user_revision <= :through",
                {"user_key": user[0], "through": through},
            )
            names = [row[0] for row in rows]
            sessions = [name.removeprefix(SESSION) for name in names if name.startswith(SESSION)]
            return Gone(tuple(names), tuple(sessions), through)

        return await self._database.read(work)

    async def remove_notices(self, scope: Scope, through: int) -> None:
        """See `Notices`."""

        def work(tx: Transaction) -> None:
            user = find_user(tx, scope)
            if user is not None:
                tx.execute(
                    "DELETE FROM fact_notices WHERE user_key = :user_key "
                    "AND user_revision <= :through",
                    {"user_key": user[0], "through": through},
                )

        await self._database.write(work, scope)
