"""The texts that wait for their vectors, given out a user at a time; see `stores.sql.jobs`."""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import structlog
from numpy.typing import NDArray

from recollect_server.memory.due import JobKind
from recollect_server.memory.model import MemoryKind
from recollect_server.memory.ports import EmbeddingBacklog, EmbeddingTask, IndexItem
from recollect_server.scope import Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.embedding_model import check_users, embeds, use_model
from recollect_server.stores.sql.indexing import episode_item, fact_item, turn_item
from recollect_server.stores.sql.jobs import (
    HURRIED_LEASE_SECONDS,
    LEASE_SECONDS,
    fail,
    holds_lease,
    lease,
)
from recollect_server.stores.sql.rows import EPISODE_COLUMNS, pack_vector
from recollect_server.stores.sql.users import find_user, step_revision
from recollect_server.stores.sql.vector_outbox import vectors_stored

log = structlog.get_logger("recollect.embedding")

_STORE = {
    MemoryKind.FACT: (
        "UPDATE facts SET vector = :vector, vector_model = :model, user_revision = :revision "
        "WHERE user_key = :user_key AND fact_id = :item_id AND is_current = 1 AND text = :text",
        "item_id IN (SELECT fact_id FROM facts",
    ),
    MemoryKind.EPISODE: (
        "UPDATE episodes SET vector = :vector, vector_model = :model, user_revision = :revision "
        "WHERE user_key = :user_key AND episode_id = :item_id",
        "item_id IN (SELECT episode_id FROM episodes",
    ),
    MemoryKind.TURN: (
        "INSERT INTO message_vectors (session_key, sequence, user_key, user_revision, model, "
        "vector) SELECT m.session_key, m.sequence, :user_key, :revision, :model, :vector "
        "FROM messages m JOIN sessions s ON s.session_key = m.session_key "
        "WHERE s.user_key = :user_key AND s.session_id = :session_id "
        "AND m.sequence = :sequence AND m.message_id = :item_id "
        "ON CONFLICT (session_key, sequence) DO UPDATE SET model = excluded.model, "
        "vector = excluded.vector, user_revision = excluded.user_revision",
        "(session_key, sequence) IN (SELECT session_key, sequence FROM message_vectors",
    ),
}
"""Of each kind: how a vector is stored, unless the item was changed or deleted meanwhile, and which
items have vectors."""

# All of them at once: what waits has no index by item, and may be much.
_NO_LONGER_WAITS = (
    "DELETE FROM pending_vectors WHERE user_key = :user_key AND kind = :kind "
    "AND {} WHERE user_key = :user_key AND user_revision = :revision)"
)


class SqlEmbeddingQueue:
    """Implements `memory.ports.EmbeddingQueue`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._other = ""

    async def use_model(self, model: str) -> None:
        """See `EmbeddingQueue`."""
        before = await use_model(self._database, model)
        if before not in ("", model):
            log.info("the embedding model changes", before=before, now=model)

    async def backlog(self, tenant: str = "") -> EmbeddingBacklog:
        """See `EmbeddingQueue`."""
        of_tenant = "JOIN users u ON u.user_key = p.user_key WHERE u.tenant = :tenant"
        (waiting, again, oldest), *_ = await self._database.read_rows(
            "SELECT COUNT(*), COALESCE(SUM(p.replaces), 0), MIN(p.create_time) "
            f"FROM pending_vectors p {of_tenant if tenant else ''}",
            {"tenant": tenant},
        )
        [(checked_through,)] = await self._database.read_rows(
            "SELECT checked_through FROM embedding", {}
        )
        return EmbeddingBacklog(
            waiting=waiting,
            reembedding=again,
            oldest_time=None if oldest is None else from_microseconds(oldest),
            checking=checked_through is not None,
        )

    async def somebody_waits(self) -> bool:
        """See `EmbeddingQueue`."""
        return bool(
            await self._database.read_rows(
                "SELECT 1 FROM jobs WHERE kind = :kind AND state <> 'dead' AND run_time = 0 "
                "LIMIT 1",
                {"kind": str(JobKind.EMBED)},
            )
        )

    async def lease_embedding(
        self, model: str, limit: int, *, hurried: bool = False
    ) -> EmbeddingTask | None:
        """See `EmbeddingQueue`."""
        now = to_microseconds(self._clock())
        seconds = HURRIED_LEASE_SECONDS if hurried else LEASE_SECONDS
        while True:
            [(current, checked_through, waiting)] = await self._database.read_rows(
                "SELECT model, checked_through, EXISTS (SELECT 1 FROM jobs WHERE kind = :kind "
                "AND state <> 'dead' AND run_time <= :now) FROM embedding",
                {"kind": str(JobKind.EMBED), "now": now},
            )
            if current not in ("", model):
                if current != self._other:
                    log.warning("another model embeds, this one waits", model=model, other=current)
                self._other = current
                return None
            if checked_through is not None:
                # First, so that what has its vector already is not given out.
                await check_users(self._database, model, checked_through, now)
            elif not waiting:
                return None
            task = await self._database.write(lambda tx: _lease(tx, now, limit, seconds))
            if task is not None or checked_through is None:
                return task

    async def complete_embedding(
        self, task: EmbeddingTask, model: str, vectors: NDArray[np.float32]
    ) -> None:
        """See `EmbeddingQueue`."""
        now = to_microseconds(self._clock())
        await self._database.write(lambda tx: _complete(tx, task, model, vectors, now), task.scope)

    async def fail_embedding(self, task: EmbeddingTask, error: str, *, waits: bool) -> None:
        """See `EmbeddingQueue`."""
        now = to_microseconds(self._clock())
        await self._database.write(
            lambda tx: fail(tx, task.job_id, task.lease, error, now, waits=waits)
        )


def _lease(tx: Transaction, now: int, limit: int, seconds: float) -> EmbeddingTask | None:
    while (leased := lease(tx, JobKind.EMBED, now, seconds)) is not None:
        job_id, number, _, user_key, _ = leased
        items = _waiting_items(tx, user_key, limit)
        if items:
            tenant, user_id = tx.execute(
                "SELECT tenant, user_id FROM users WHERE user_key = :user_key",
                {"user_key": user_key},
            )[0]
            return EmbeddingTask(job_id, number, Scope(tenant, user_id), items)
        # What was queued is gone; without this the job would come up for ever.
        tx.execute("DELETE FROM pending_vectors WHERE user_key = :user_key", {"user_key": user_key})
        tx.execute("DELETE FROM jobs WHERE job_id = :job_id", {"job_id": job_id})
    return None


def _waiting_items(tx: Transaction, user_key: int, limit: int) -> tuple[IndexItem, ...]:
    """Return the user's texts that have waited longest, at most `limit`."""
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
        "SELECT f.fact_id, f.text, f.metadata, f.valid_from, f.kind, NULL, NULL "
        "FROM pending_vectors p JOIN facts f ON f.user_key = p.user_key "
        "AND f.fact_id = p.item_id AND f.is_current = 1 "
        "WHERE p.user_key = :user_key AND p.kind = :kind ORDER BY p.user_revision LIMIT :limit",
        params | {"kind": int(MemoryKind.FACT)},
    )
    episodes = tx.execute(
        f"SELECT {EPISODE_COLUMNS}, NULL, NULL FROM pending_vectors p "
        "JOIN episodes e ON e.user_key = p.user_key AND e.episode_id = p.item_id "
        "JOIN sessions s ON s.session_key = e.session_key "
        "WHERE p.user_key = :user_key AND p.kind = :kind ORDER BY p.user_revision LIMIT :limit",
        params | {"kind": int(MemoryKind.EPISODE)},
    )
    items = (
        *(fact_item(row, "") for row in facts),
        *(episode_item(row, "") for row in episodes),
        *(turn_item(row, "") for row in turns),
    )
    return items[:limit]


def _complete(
    tx: Transaction,
    task: EmbeddingTask,
    model: str,
    vectors: NDArray[np.float32],
    now: int,
) -> None:
    # The user's row first, as writers of messages do, or the two could wait for each other.
    if find_user(tx, task.scope, lock=True) is None or not holds_lease(tx, task.job_id, task.lease):
        return
    if not embeds(tx, model):
        tx.execute(
            "UPDATE jobs SET state = 'due', again = 0, run_time = :now WHERE job_id = :job_id",
            {"now": now, "job_id": task.job_id},
        )
        return
    user_key, revision = step_revision(tx, task.scope)
    common = {"user_key": user_key, "revision": revision, "model": model}
    for kind, (store, embedded) in _STORE.items():
        stored = [
            common
            | {
                "vector": pack_vector(vector),
                "item_id": item.item_id,
                "session_id": item.session_id,
                "sequence": item.sequence,
                "text": item.text,
            }
            for item, vector in zip(task.items, vectors, strict=True)
            if item.kind is kind
        ]
        if stored:
            tx.execute_many(store, stored)
            tx.execute(_NO_LONGER_WAITS.format(embedded), common | {"kind": int(kind)})
    vectors_stored(tx, user_key, revision)
    left = tx.execute(
        "SELECT 1 FROM pending_vectors WHERE user_key = :user_key LIMIT 1", {"user_key": user_key}
    )
    if left:
        tx.execute(
            "UPDATE jobs SET state = 'due', again = 0, attempts = 0, run_time = :now "
            "WHERE job_id = :job_id",
            {"now": now, "job_id": task.job_id},
        )
    else:
        tx.execute("DELETE FROM jobs WHERE job_id = :job_id", {"job_id": task.job_id})
