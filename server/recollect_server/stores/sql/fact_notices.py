"""Notices of facts changed or forgotten, written with that change; see `memory.forgetting`."""

from collections.abc import Sequence

from recollect_server.memory.due import JobKind
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.jobs import queue_job
from recollect_server.stores.sql.users import find_user


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


class SqlFactNotices:
    """Implements `memory.forgetting.FactNotices`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fact_notices(self, scope: Scope, limit: int) -> tuple[tuple[str, ...], int]:
        """See `FactNotices`."""

        def work(tx: Transaction) -> tuple[tuple[str, ...], int]:
            user = find_user(tx, scope)
            if user is None:
                return (), 0
            oldest = tx.execute(
                "SELECT user_revision FROM fact_notices WHERE user_key = :user_key "
                "ORDER BY user_revision LIMIT :limit",
                {"user_key": user[0], "limit": limit},
            )
            if not oldest:
                return (), 0
            # Whole revisions, or notices of the last one would be removed unread.
            through: int = oldest[-1][0]
            rows = tx.execute(
                "SELECT DISTINCT fact_id FROM fact_notices "
                "WHERE user_key = :user_key AND user_revision <= :through",
                {"user_key": user[0], "through": through},
            )
            return tuple(row[0] for row in rows), through

        return await self._database.read(work)

    async def remove_fact_notices(self, scope: Scope, through: int) -> None:
        """See `FactNotices`."""

        def work(tx: Transaction) -> None:
            user = find_user(tx, scope)
            if user is not None:
                tx.execute(
                    "DELETE FROM fact_notices WHERE user_key = :user_key "
                    "AND user_revision <= :through",
                    {"user_key": user[0], "through": through},
                )

        await self._database.write(work, scope)
