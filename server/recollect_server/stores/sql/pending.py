"""What indexes have yet to learn: texts without a vector, and deletions.

`pending_vectors` holds one row for each text without a vector, so the oldest of them tells up to
which revision everything can be found by meaning. A job, one a user, says that there are any.
"""

from collections.abc import Sequence

from recollect_server.memory.due import JobKind
from recollect_server.memory.model import MemoryKind, Message
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.jobs import queue_job
from recollect_server.stores.sql.vector_outbox import vectors_deleted

_REVISIONS = (
    "SELECT u.user_key, u.revision, "
    "(SELECT MIN(p.user_revision) FROM pending_vectors p WHERE p.user_key = u.user_key), "
    "e.model, e.checked_through FROM users u CROSS JOIN embedding e"
)


def bury(
    tx: Transaction, user_key: int, revision: int, kind: MemoryKind, item_ids: Sequence[str]
) -> None:
    """Record deletions, so that indexes learn of them."""
    tx.execute_many(
        "INSERT INTO tombstones (user_key, user_revision, kind, item_id) "
        "VALUES (:user_key, :revision, :kind, :item_id)",
        [
            {"user_key": user_key, "revision": revision, "kind": int(kind), "item_id": item_id}
            for item_id in item_ids
        ],
    )
    vectors_deleted(tx, user_key, revision, kind, item_ids)


def queue_messages(
    tx: Transaction,
    user_key: int,
    revision: int,
    session_key: int,
    messages: Sequence[Message],
    now: int,
    *,
    job_is_due: bool = False,
) -> None:
    """Queue the messages that have words to embed.

    Args:
        job_is_due: the user's job is, and stays so until the transaction ends.
    """
    _queue(
        tx,
        user_key,
        [
            (revision, MemoryKind.TURN, session_key, message.sequence, "")
            for message in messages
            if message.text
        ],
        now,
        job_is_due=job_is_due,
    )


def queue_facts(
    tx: Transaction, user_key: int, revision: int, fact_ids: Sequence[str], now: int
) -> None:
    """Queue facts to embed; what waits for an earlier version is to be taken out before."""
    _queue(tx, user_key, [(revision, MemoryKind.FACT, 0, 0, f) for f in fact_ids], now)


def queue_episode(
    tx: Transaction, user_key: int, revision: int, session_key: int, episode_id: str, now: int
) -> None:
    """Queue an episode to embed."""
    _queue(tx, user_key, [(revision, MemoryKind.EPISODE, session_key, 0, episode_id)], now)


def forget_pending(tx: Transaction, user_key: int, kind: MemoryKind, item_id: str) -> None:
    """Take a fact or an episode out of the queue."""
    tx.execute(
        "DELETE FROM pending_vectors WHERE user_key = :user_key AND kind = :kind "
        "AND item_id = :item_id",
        {"user_key": user_key, "kind": int(kind), "item_id": item_id},
    )


def _queue(
    tx: Transaction,
    user_key: int,
    items: Sequence[tuple[int, MemoryKind, int, int, str]],
    now: int,
    *,
    job_is_due: bool = False,
) -> None:
    if not items:
        return
    tx.execute_many(
        "INSERT INTO pending_vectors "
        "(user_key, user_revision, kind, session_key, sequence, item_id, create_time) VALUES "
        "(:user_key, :revision, :kind, :session_key, :sequence, :item_id, :now)",
        [
            {
                "user_key": user_key,
                "revision": revision,
                "kind": int(kind),
                "session_key": session_key,
                "sequence": sequence,
                "item_id": item_id,
                "now": now,
            }
            for revision, kind, session_key, sequence, item_id in items
        ],
    )
    if not job_is_due:
        queue_job(tx, JobKind.EMBED, user_key, 0, now)


def indexed_revision(tx: Transaction, user_key: int, revision: int, model: str) -> int:
    """Return up to which revision every text of the user has its vector of a model.

    Args:
        model: "" means the one that embeds.
    """
    rows = tx.execute(f"{_REVISIONS} WHERE u.user_key = :user_key", {"user_key": user_key})
    return _indexed((user_key, revision, *rows[0][2:]), model)


async def read_revisions(database: Database, scope: Scope, model: str) -> tuple[int, int]:
    """Return a user's revision and its `indexed_revision`, zeros for a user without data."""
    rows = await database.read_rows(
        f"{_REVISIONS} WHERE u.tenant = :tenant AND u.user_id = :user_id",
        {"tenant": scope.tenant, "user_id": scope.user_id},
    )
    return (rows[0][1], _indexed(rows[0], model)) if rows else (0, 0)


def _indexed(row: Row, model: str) -> int:
    """Return the indexed revision of a row of `_REVISIONS`."""
    user_key, revision, oldest, embedding_model, checked_through = row
    unchecked = checked_through is not None and checked_through < user_key
    if unchecked or (model and embedding_model not in ("", model)):
        return 0
    return int(revision if oldest is None else oldest - 1)
