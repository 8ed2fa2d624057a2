"""What indexes are built from, and the outbox of texts that wait for their vectors.

`pending_vectors` holds one row for each text without a vector, so the oldest of them tells up to
which revision everything can be found by meaning. A job, one a user, says that there are any; it
is leased, tried again with growing pauses, and a dead letter after `MAX_ATTEMPTS`. New text of the
user makes a dead job due again: what failed then may work now.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect_server.ids import uuid7
from recollect_server.memory.model import MemoryKind, Message, Role, plain_text
from recollect_server.memory.ports import EmbeddingTask, IndexChanges, IndexItem
from recollect_server.scope import Scope
from recollect_server.stores.codec import (
    decode_parts,
    from_microseconds,
    to_microseconds,
    unpack,
)
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.rows import pack_vector, to_vector
from recollect_server.stores.sql.users import find_user, step_revision

EMBED = "embed"
LEASE_SECONDS = 60
MAX_ATTEMPTS = 10
FIRST_RETRY_SECONDS = 1
LONGEST_RETRY_SECONDS = 300
_SECOND = 1_000_000

_TURN_COLUMNS = (
    "m.message_id, s.session_id, m.sequence, m.role, m.content, m.extras, m.time, v.model, v.vector"
)
_FACT_COLUMNS = "fact_id, text, metadata, valid_from, vector_model, vector, valid_to"


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


def queue_messages(
    tx: Transaction,
    user_key: int,
    revision: int,
    session_key: int,
    messages: Sequence[Message],
    now: int,
) -> None:
    """Queue the messages that have words to embed."""
    _queue(
        tx,
        user_key,
        [
            (revision, MemoryKind.TURN, session_key, message.sequence, "")
            for message in messages
            if message.text
        ],
        now,
    )


def queue_facts(
    tx: Transaction, user_key: int, revision: int, fact_ids: Sequence[str], now: int
) -> None:
    """Queue facts to embed, each once: an earlier version's text no longer matters."""
    for fact_id in fact_ids:
        forget_pending_fact(tx, user_key, fact_id)
    _queue(tx, user_key, [(revision, MemoryKind.FACT, 0, 0, f) for f in fact_ids], now)


def forget_pending_fact(tx: Transaction, user_key: int, fact_id: str) -> None:
    """Take a fact out of the queue."""
    tx.execute(
        "DELETE FROM pending_vectors WHERE user_key = :user_key AND kind = :kind "
        "AND fact_id = :fact_id",
        {"user_key": user_key, "kind": int(MemoryKind.FACT), "fact_id": fact_id},
    )


def _queue(
    tx: Transaction,
    user_key: int,
    items: Sequence[tuple[int, MemoryKind, int, int, str]],
    now: int,
) -> None:
    if not items:
        return
    tx.execute_many(
        "INSERT INTO pending_vectors "
        "(user_key, user_revision, kind, session_key, sequence, fact_id) VALUES "
        "(:user_key, :revision, :kind, :session_key, :sequence, :fact_id)",
        [
            {
                "user_key": user_key,
                "revision": revision,
                "kind": int(kind),
                "session_key": session_key,
                "sequence": sequence,
                "fact_id": fact_id,
            }
            for revision, kind, session_key, sequence, fact_id in items
        ],
    )
    tx.execute(
        "INSERT INTO jobs (job_id, kind, user_key, state, attempts, run_time, lease, last_error, "
        "create_time) VALUES (:job_id, :kind, :user_key, 'due', 0, :now, 0, '', :now) "
        "ON CONFLICT (kind, user_key) DO UPDATE SET state = 'due', attempts = 0, "
        "run_time = excluded.run_time, lease = jobs.lease + 1 WHERE jobs.state = 'dead'",
        {"job_id": uuid7(), "kind": EMBED, "user_key": user_key, "now": now},
    )


def indexed_revision(tx: Transaction, user_key: int, revision: int) -> int:
    """Return up to which revision every text of the user has its vector."""
    rows = tx.execute(
        "SELECT MIN(user_revision) FROM pending_vectors WHERE user_key = :user_key",
        {"user_key": user_key},
    )
    oldest = rows[0][0]
    return revision if oldest is None else oldest - 1


def _turn_item(row: Row, model: str) -> IndexItem:
    role = Role(row[3])
    author, metadata, _ = unpack(row[5]) if row[5] is not None else ("", {}, "")
    return IndexItem(
        kind=MemoryKind.TURN,
        item_id=row[0],
        session_id=row[1],
        sequence=row[2],
        role=role,
        speaker=author or role.name.lower(),
        text=plain_text(decode_parts(row[4])),
        time=from_microseconds(row[6]),
        metadata=metadata,
        vector=to_vector(row[8]) if row[7] == model else None,
    )


def _fact_item(row: Row, model: str) -> IndexItem:
    return IndexItem(
        kind=MemoryKind.FACT,
        item_id=row[0],
        session_id="",
        sequence=0,
        role=Role.USER,
        speaker="",
        text=row[1],
        time=from_microseconds(row[3]),
        metadata=unpack(row[2]),
        vector=to_vector(row[5]) if row[4] == model else None,
    )


class SqlIndexSource:
    """Implements `memory.ports.IndexSource`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def user_revision(self, scope: Scope) -> tuple[int, int]:
        """See `IndexSource`."""

        def work(tx: Transaction) -> tuple[int, int]:
            user = find_user(tx, scope)
            if user is None:
                return 0, 0
            return user[1], indexed_revision(tx, *user)

        return await self._database.read(work)

    async def index_changes(self, scope: Scope, since: int, model: str) -> IndexChanges:
        """See `IndexSource`."""

        def work(tx: Transaction) -> IndexChanges:
            user = find_user(tx, scope)
            if user is None:
                return IndexChanges(0, 0, (), (), complete=True)
            now = to_microseconds(self._clock())
            return _changes(tx, user[0], user[1], since, model, now)

        return await self._database.read(work)


def _changes(
    tx: Transaction, user_key: int, revision: int, since: int, model: str, now: int
) -> IndexChanges:
    params = {"user_key": user_key, "since": since}
    base = (
        f"SELECT {_TURN_COLUMNS} FROM messages m "
        "JOIN sessions s ON s.session_key = m.session_key "
        "LEFT JOIN message_vectors v ON v.session_key = m.session_key "
        "AND v.sequence = m.sequence "
    )
    if since == 0:
        turns = tx.execute(
            f"{base}WHERE m.user_key = :user_key ORDER BY m.session_key, m.sequence",
            {"user_key": user_key},
        )
    else:
        turns = tx.execute(
            f"{base}WHERE m.user_key = :user_key AND m.user_revision > :since UNION "
            f"{base}WHERE v.user_key = :user_key AND v.user_revision > :since "
            "ORDER BY 2, 3",
            params,
        )
    facts = tx.execute(
        f"SELECT {_FACT_COLUMNS} FROM facts WHERE user_key = :user_key AND is_current = 1 "
        "AND user_revision > :since",
        params,
    )
    # A fact that no longer holds is not recalled; its history keeps it.
    holding = [row for row in facts if row[6] is None or row[6] > now]
    closed = [(MemoryKind.FACT, row[0]) for row in facts if row not in holding]
    gone = tx.execute(
        "SELECT kind, item_id FROM tombstones WHERE user_key = :user_key "
        "AND user_revision > :since ORDER BY user_revision",
        params,
    )
    upserts = (
        *(_turn_item(row, model) for row in turns),
        *(_fact_item(row, model) for row in holding),
    )
    alive = {(item.kind, item.item_id) for item in upserts}
    deletes = tuple(closed) + tuple(
        key for kind, item_id in gone if (key := (MemoryKind(kind), item_id)) not in alive
    )
    return IndexChanges(
        revision=revision,
        indexed_revision=indexed_revision(tx, user_key, revision),
        upserts=upserts,
        deletes=() if since == 0 else deletes,
        complete=since == 0,
    )


class SqlEmbeddingQueue:
    """Implements `memory.ports.EmbeddingQueue`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def lease_embedding(self, model: str, limit: int) -> EmbeddingTask | None:
        """See `EmbeddingQueue`."""
        now = to_microseconds(self._clock())
        due = {"kind": EMBED, "now": now}
        waiting = await self._database.read(
            lambda tx: tx.execute(
                "SELECT 1 FROM jobs WHERE kind = :kind AND state <> 'dead' "
                "AND run_time <= :now LIMIT 1",
                due,
            )
        )
        if not waiting:
            return None
        return await self._database.write(lambda tx: _lease(tx, now, limit))

    async def complete_embedding(
        self, task: EmbeddingTask, model: str, vectors: NDArray[np.float32]
    ) -> None:
        """See `EmbeddingQueue`."""
        now = to_microseconds(self._clock())
        await self._database.write(lambda tx: _complete(tx, task, model, vectors, now))

    async def fail_embedding(self, task: EmbeddingTask, error: str) -> None:
        """See `EmbeddingQueue`."""
        now = to_microseconds(self._clock())
        await self._database.write(lambda tx: _fail(tx, task, error, now))


def _lease(tx: Transaction, now: int, limit: int) -> EmbeddingTask | None:
    rows = tx.execute(
        "UPDATE jobs SET state = 'running', lease = lease + 1, run_time = :until "
        "WHERE job_id = (SELECT job_id FROM jobs WHERE kind = :kind AND state <> 'dead' "
        "AND run_time <= :now ORDER BY run_time LIMIT 1) RETURNING job_id, lease, user_key",
        {"kind": EMBED, "now": now, "until": now + LEASE_SECONDS * _SECOND},
    )
    if not rows:
        return None
    job_id, lease, user_key = rows[0]
    tenant, user_id = tx.execute(
        "SELECT tenant, user_id FROM users WHERE user_key = :user_key", {"user_key": user_key}
    )[0]
    params = {"user_key": user_key, "limit": limit, "kind": int(MemoryKind.TURN)}
    turns = tx.execute(
        "SELECT m.message_id, s.session_id, m.sequence, m.role, m.content, m.extras, m.time, "
        "NULL, NULL FROM pending_vectors p JOIN messages m ON m.session_key = p.session_key "
        "AND m.sequence = p.sequence JOIN sessions s ON s.session_key = m.session_key "
        "WHERE p.user_key = :user_key AND p.kind = :kind "
        "ORDER BY p.user_revision, p.sequence LIMIT :limit",
        params,
    )
    facts = tx.execute(
        "SELECT f.fact_id, f.text, f.metadata, f.valid_from, NULL, NULL FROM pending_vectors p "
        "JOIN facts f ON f.user_key = p.user_key AND f.fact_id = p.fact_id AND f.is_current = 1 "
        "WHERE p.user_key = :user_key AND p.kind = :kind ORDER BY p.user_revision LIMIT :limit",
        params | {"kind": int(MemoryKind.FACT)},
    )
    items = [*(_fact_item(row, "") for row in facts), *(_turn_item(row, "") for row in turns)]
    if not items:
        # What was queued is gone; without this the job would come up for ever.
        tx.execute("DELETE FROM pending_vectors WHERE user_key = :user_key", params)
        tx.execute("DELETE FROM jobs WHERE job_id = :job_id", {"job_id": job_id})
        return None
    return EmbeddingTask(job_id, lease, Scope(tenant, user_id), tuple(items[:limit]))


def _holds_lease(tx: Transaction, task: EmbeddingTask) -> bool:
    rows = tx.execute(
        "SELECT 1 FROM jobs WHERE job_id = :job_id AND lease = :lease AND state = 'running'",
        {"job_id": task.job_id, "lease": task.lease},
    )
    return bool(rows)


def _complete(
    tx: Transaction,
    task: EmbeddingTask,
    model: str,
    vectors: NDArray[np.float32],
    now: int,
) -> None:
    if not _holds_lease(tx, task):
        return
    user_key, revision = step_revision(tx, task.scope)
    for item, vector in zip(task.items, vectors, strict=True):
        params: dict[str, Any] = {
            "user_key": user_key,
            "revision": revision,
            "model": model,
            "vector": pack_vector(vector),
            "item_id": item.item_id,
        }
        if item.kind is MemoryKind.FACT:
            _store_fact_vector(tx, params | {"text": item.text})
        else:
            _store_turn_vector(
                tx, params | {"session_id": item.session_id, "sequence": item.sequence}
            )
    left = tx.execute(
        "SELECT 1 FROM pending_vectors WHERE user_key = :user_key LIMIT 1", {"user_key": user_key}
    )
    if left:
        tx.execute(
            "UPDATE jobs SET state = 'due', attempts = 0, run_time = :now WHERE job_id = :job_id",
            {"now": now, "job_id": task.job_id},
        )
    else:
        tx.execute("DELETE FROM jobs WHERE job_id = :job_id", {"job_id": task.job_id})


def _store_fact_vector(tx: Transaction, params: dict[str, Any]) -> None:
    """Store a vector unless the fact was updated or forgotten meanwhile."""
    stored = tx.execute(
        "UPDATE facts SET vector = :vector, vector_model = :model, user_revision = :revision "
        "WHERE user_key = :user_key AND fact_id = :item_id AND is_current = 1 AND text = :text "
        "RETURNING 1",
        params,
    )
    if stored:
        tx.execute(
            "DELETE FROM pending_vectors WHERE user_key = :user_key AND fact_id = :item_id",
            params,
        )


def _store_turn_vector(tx: Transaction, params: dict[str, Any]) -> None:
    """Store a vector unless the message was deleted meanwhile."""
    stored = tx.execute(
        "INSERT INTO message_vectors (session_key, sequence, user_key, user_revision, model, "
        "vector) SELECT m.session_key, m.sequence, :user_key, :revision, :model, :vector "
        "FROM messages m JOIN sessions s ON s.session_key = m.session_key "
        "WHERE s.user_key = :user_key AND s.session_id = :session_id "
        "AND m.sequence = :sequence AND m.message_id = :item_id "
        "ON CONFLICT (session_key, sequence) DO UPDATE SET model = excluded.model, "
        "vector = excluded.vector, user_revision = excluded.user_revision RETURNING session_key",
        params,
    )
    if stored:
        tx.execute(
            "DELETE FROM pending_vectors WHERE user_key = :user_key "
            "AND session_key = :session_key AND sequence = :sequence",
            params | {"session_key": stored[0][0]},
        )


def _fail(tx: Transaction, task: EmbeddingTask, error: str, now: int) -> None:
    if not _holds_lease(tx, task):
        return
    attempts = tx.execute(
        "SELECT attempts FROM jobs WHERE job_id = :job_id", {"job_id": task.job_id}
    )[0][0]
    pause = min(FIRST_RETRY_SECONDS * 2**attempts, LONGEST_RETRY_SECONDS)
    tx.execute(
        "UPDATE jobs SET state = :state, attempts = attempts + 1, run_time = :run_time, "
        "last_error = :error WHERE job_id = :job_id",
        {
            "state": "dead" if attempts + 1 >= MAX_ATTEMPTS else "due",
            "run_time": now + pause * _SECOND,
            "error": error,
            "job_id": task.job_id,
        },
    )
