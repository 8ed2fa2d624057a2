"""Which model embeds, and what happens when it changes.

The database names one model, that of the server or worker that started last. Vectors of others stay
where they are, unread, until their texts are embedded anew: each user's are queued once, in the
order of the users, and the row remembers how far that went, so it goes on where it was interrupted.
"""

from functools import partial

from recollect_server.memory.due import JobKind
from recollect_server.memory.model import MemoryKind
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.jobs import queue_job

USERS = 200
"""Users looked at by one read."""

ITEMS = 1000
"""Texts queued by one transaction, so that other writes do not wait long."""

_STALE = (
    "EXISTS (SELECT 1 FROM pending_vectors p WHERE p.user_key = u.user_key) "
    "OR EXISTS (SELECT 1 FROM message_vectors v WHERE v.user_key = u.user_key "
    "AND v.model <> :model) "
    "OR EXISTS (SELECT 1 FROM facts f WHERE f.user_key = u.user_key AND f.is_current = 1 "
    "AND f.vector_model <> :model) "
    "OR EXISTS (SELECT 1 FROM episodes e WHERE e.user_key = u.user_key "
    "AND e.vector_model <> :model)"
)
_HAS_ITS_VECTOR = (
    f"DELETE FROM pending_vectors WHERE user_key = :user_key AND kind = {int(MemoryKind.TURN)} "
    "AND EXISTS (SELECT 1 FROM message_vectors v WHERE v.session_key = pending_vectors.session_key "
    "AND v.sequence = pending_vectors.sequence AND v.model = :model)",
    f"DELETE FROM pending_vectors WHERE user_key = :user_key AND kind = {int(MemoryKind.FACT)} "
    "AND EXISTS (SELECT 1 FROM facts f WHERE f.user_key = pending_vectors.user_key "
    "AND f.fact_id = pending_vectors.item_id AND f.is_current = 1 AND f.vector_model = :model)",
    f"DELETE FROM pending_vectors WHERE user_key = :user_key AND kind = {int(MemoryKind.EPISODE)} "
    "AND EXISTS (SELECT 1 FROM episodes e WHERE e.user_key = pending_vectors.user_key "
    "AND e.episode_id = pending_vectors.item_id AND e.vector_model = :model)",
)
_QUEUE = (
    "INSERT INTO pending_vectors (user_key, user_revision, kind, session_key, sequence, item_id, "
    "create_time, replaces) "
)
_FREE = "AND NOT EXISTS (SELECT 1 FROM pending_vectors p WHERE p.user_key = :user_key "
# A turn waits from the revision that wrote it. Of facts and episodes that revision is no longer
# known, so they count as the user's first.
_OF_OTHER_MODELS = (
    f"{_QUEUE}SELECT m.user_key, m.user_revision, {int(MemoryKind.TURN)}, v.session_key, "
    "v.sequence, '', :now, 1 FROM message_vectors v JOIN messages m "
    "ON m.session_key = v.session_key AND m.sequence = v.sequence "
    "WHERE v.user_key = :user_key AND v.model <> :model "
    f"{_FREE}AND p.session_key = v.session_key AND p.sequence = v.sequence) "
    "LIMIT :limit RETURNING 1",
    f"{_QUEUE}SELECT f.user_key, 1, {int(MemoryKind.FACT)}, 0, 0, f.fact_id, :now, 1 FROM facts f "
    "WHERE f.user_key = :user_key AND f.is_current = 1 AND f.vector_model <> :model "
    f"{_FREE}AND p.kind = {int(MemoryKind.FACT)} AND p.item_id = f.fact_id) "
    "LIMIT :limit RETURNING 1",
    f"{_QUEUE}SELECT e.user_key, 1, {int(MemoryKind.EPISODE)}, e.session_key, 0, e.episode_id, "
    ":now, 1 FROM episodes e WHERE e.user_key = :user_key AND e.vector_model <> :model "
    f"{_FREE}AND p.kind = {int(MemoryKind.EPISODE)} AND p.item_id = e.episode_id) "
    "LIMIT :limit RETURNING 1",
)


async def use_model(database: Database, model: str) -> str:
    """Make a model the one that embeds, and return the one before, "" for none.

    What other models embedded is queued by `check_users` later on.
    """

    def work(tx: Transaction) -> str:
        before: str = tx.execute("SELECT model FROM embedding")[0][0]
        tx.execute(
            "UPDATE embedding SET model = :model, "
            "checked_through = CASE WHEN EXISTS (SELECT 1 FROM users) THEN 0 END "
            "WHERE model <> :model",
            {"model": model},
        )
        return before

    return await database.write(work)


def embeds(tx: Transaction, model: str) -> bool:
    """Whether a model is the one that embeds, and stays so until the transaction ends."""
    share = " FOR KEY SHARE" if tx.for_update else ""
    return bool(
        tx.execute(f"SELECT 1 FROM embedding WHERE model IN ('', :model){share}", {"model": model})
    )


async def check_users(database: Database, model: str, after: int, now: int) -> None:
    """Queue what other models embedded, of the next users after a key; note how far that went.

    Args:
        now: microseconds since 1970.
    """
    rows = await database.read_rows(
        f"SELECT u.user_key, u.tenant, u.user_id, {_STALE} FROM users u "
        "WHERE u.user_key > :after ORDER BY u.user_key LIMIT :limit",
        {"after": after, "model": model, "limit": USERS},
    )
    for user_key, tenant, user_id, stale in rows:
        if stale:
            scope = Scope(tenant, user_id)
            queue = partial(_queue, user_key=user_key, model=model, now=now)
            while await database.write(queue, scope):
                pass
    # All of them are done when no user is left; those made since have no other model's vectors.
    through = rows[-1][0] if len(rows) == USERS else None
    await database.write(
        lambda tx: tx.execute(
            "UPDATE embedding SET checked_through = :through "
            "WHERE model = :model AND checked_through = :after",
            {"model": model, "after": after, "through": through},
        )
    )


def _queue(tx: Transaction, user_key: int, model: str, now: int) -> bool:
    """Queue a part of a user's texts; True if there may be more."""
    params = {"user_key": user_key, "model": model, "now": now}
    # The user's row first, as writers of messages do, or the two could wait for each other.
    tx.execute(f"SELECT 1 FROM users WHERE user_key = :user_key{tx.for_update}", params)
    if not embeds(tx, model):
        return False
    # Queued for another model, and embedded by this one before that.
    for statement in _HAS_ITS_VECTOR:
        tx.execute(statement, params)
    left = ITEMS
    for statement in _OF_OTHER_MODELS:
        left -= len(tx.execute(statement, params | {"limit": left}))
    if tx.execute("SELECT 1 FROM pending_vectors WHERE user_key = :user_key LIMIT 1", params):
        queue_job(tx, JobKind.EMBED, user_key, 0, now)
        # Whatever it waited for was the other model's trouble.
        tx.execute(
            "UPDATE jobs SET run_time = :now, attempts = 0 WHERE kind = :kind "
            "AND user_key = :user_key AND state = 'due' AND run_time > :now",
            params | {"kind": str(JobKind.EMBED)},
        )
    return left == 0
