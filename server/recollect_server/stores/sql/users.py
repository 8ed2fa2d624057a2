"""The row of a user: the clock of that user's changes."""

from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Transaction


def step_revision(tx: Transaction, scope: Scope) -> tuple[int, int]:
    """Step the user's revision, creating the user, and return (user_key, revision).

    The row stays locked until the transaction ends, so revisions become visible in their order.
    """
    rows = tx.execute(
        "INSERT INTO users (tenant, user_id, revision) VALUES (:tenant, :user_id, 1) "
        "ON CONFLICT (tenant, user_id) DO UPDATE SET revision = users.revision + 1 "
        "RETURNING user_key, revision",
        {"tenant": scope.tenant, "user_id": scope.user_id},
    )
    user_key, revision = rows[0]
    return user_key, revision


def find_user(tx: Transaction, scope: Scope, *, lock: bool = False) -> tuple[int, int] | None:
    """Return (user_key, revision), None for a user without data.

    Args:
        lock: keep other writers of the user out until the transaction ends.
    """
    rows = tx.execute(
        "SELECT user_key, revision FROM users WHERE tenant = :tenant AND user_id = :user_id"
        + (tx.for_update if lock else ""),
        {"tenant": scope.tenant, "user_id": scope.user_id},
    )
    return (rows[0][0], rows[0][1]) if rows else None


def step_key(tx: Transaction, user_key: int) -> int:
    """Step the revision of a user known by its key, and return it; see `step_revision`."""
    rows = tx.execute(
        "UPDATE users SET revision = revision + 1 WHERE user_key = :user_key RETURNING revision",
        {"user_key": user_key},
    )
    revision: int = rows[0][0]
    return revision
