"""The row of a user: the clock of that user's changes.

The row stays when a user is erased, under a name that no caller can give, so that neither the key
nor the revisions are ever used again: a keyed digest tells whose it was. See `stores.sql.erasing`.
"""

import hashlib

from recollect_server.errors import Aborted, Reason
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Transaction

DIGEST_BYTES = 16

KEY_OF_USER = "(SELECT user_key FROM users WHERE tenant = :tenant AND user_id = :user_id)"
"""For a statement that reads by itself; it finds nothing of a user without data."""


def step_revision(tx: Transaction, scope: Scope) -> tuple[int, int]:
    """Step the user's revision, creating the user, and return (user_key, revision).

    The row stays locked until the transaction ends, so revisions become visible in their order.

    Raises:
        Aborted: USER_BEING_ERASED.
    """
    rows = tx.execute(
        "UPDATE users SET revision = revision + 1 WHERE tenant = :tenant AND user_id = :user_id "
        "RETURNING user_key, revision",
        {"tenant": scope.tenant, "user_id": scope.user_id},
    )
    user_key, revision = rows[0] if rows else _create(tx, scope)
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


def erased_digest(tx: Transaction, scope: Scope) -> bytes:
    """Return what stands for a user once erased: BLAKE2b with the database's own key."""
    key: bytes = bytes(tx.execute("SELECT value FROM erasure_key WHERE number = 1")[0][0])
    state = hashlib.blake2b(digest_size=DIGEST_BYTES, key=key)
    for part in (scope.tenant, scope.user_id):
        data = part.encode()
        state.update(len(data).to_bytes(8))
        state.update(data)
    return state.digest()


def erased_revision(tx: Transaction, erased: bytes) -> int:
    """Return the last revision of a user who was erased, 0 for one who never was."""
    rows = tx.execute(
        "SELECT COALESCE(MAX(revision), 0) FROM users WHERE erased = :erased", {"erased": erased}
    )
    return int(rows[0][0])


def being_erased() -> Aborted:
    """Return the error of a call about a user who is being erased."""
    return Aborted(
        Reason.USER_BEING_ERASED, "the user is being erased; try again when EraseUser has answered"
    )


def _create(tx: Transaction, scope: Scope) -> tuple[int, int]:
    """Make the user's row; the revisions of one who was erased go on from where they ended."""
    erased = erased_digest(tx, scope)
    if tx.execute(
        "SELECT 1 FROM erasures WHERE erased = :erased AND complete = 0", {"erased": erased}
    ):
        raise being_erased()
    rows = tx.execute(
        "INSERT INTO users (tenant, user_id, revision, pruned_revision) "
        "VALUES (:tenant, :user_id, :revision + 1, :revision) "
        "ON CONFLICT (tenant, user_id) DO UPDATE SET revision = users.revision + 1 "
        "RETURNING user_key, revision",
        {
            "tenant": scope.tenant,
            "user_id": scope.user_id,
            "revision": erased_revision(tx, erased),
        },
    )
    return rows[0][0], rows[0][1]
