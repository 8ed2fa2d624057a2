"""How much is stored of a user, or of all users of a tenant."""

from recollect_server.admin.limits import Limit
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database

# A session's messages are numbered from 1 and go only with it, so nothing reads the messages.
_COUNTS = {
    Limit.STORED_MESSAGES: (
        "SELECT COALESCE(SUM(s.last_sequence), 0) FROM sessions s JOIN users u "
        "ON u.user_key = s.user_key WHERE u.tenant = :tenant"
    ),
    Limit.STORED_FACTS: (
        "SELECT COUNT(*) FROM facts f JOIN users u ON u.user_key = f.user_key "
        "WHERE f.is_current = 1 AND u.tenant = :tenant"
    ),
}


class SqlStoredCounts:
    """Implements `admin.quotas.StoredCounts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, owner: Scope, limit: Limit) -> int:
        """See `StoredCounts`."""
        sql = _COUNTS[limit] + (" AND u.user_id = :user_id" if owner.user_id else "")
        rows = await self._database.read(
            lambda tx: tx.execute(sql, {"tenant": owner.tenant, "user_id": owner.user_id})
        )
        return int(rows[0][0])
