"""What people said of cached answers, and counts of lookups."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from recollect_server.cache.model import Feedback, Partition, Tombstone, Verdict
from recollect_server.scope import Scope
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql.database import Database

_PARTITION = (
    "tenant = :tenant AND user_id = :user_id AND scope = :scope AND session_id = :session_id"
)


class SqlCacheRecords:
    """Implements `cache.ports.CacheRecords`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def report(self, partition: Partition, feedback: Feedback) -> None:
        """See `CacheRecords`."""
        vector, probability = feedback.vector, feedback.probability
        params = _named(partition) | {
            "answer": feedback.answer,
            "question": feedback.question,
            "entry_id": feedback.entry_id,
            "verdict": int(feedback.verdict),
            "probability": None if probability is None else round(1_000_000 * probability),
            "vector_model": feedback.vector_model,
            "vector": None if vector is None else vector.astype(np.float16).tobytes(),
            "now": to_microseconds(self._clock()),
        }
        await self._database.write(
            lambda tx: tx.execute(
                "INSERT INTO cache_feedback (tenant, user_id, scope, session_id, answer, question, "
                "entry_id, verdict, probability, vector_model, vector, time) VALUES (:tenant, "
                ":user_id, :scope, :session_id, :answer, :question, :entry_id, :verdict, "
                ":probability, :vector_model, :vector, :now) "
                "ON CONFLICT (tenant, user_id, scope, session_id, answer, question) DO UPDATE SET "
                "entry_id = excluded.entry_id, verdict = CASE WHEN excluded.verdict > "
                "cache_feedback.verdict THEN excluded.verdict ELSE cache_feedback.verdict END, "
                "probability = excluded.probability, vector_model = excluded.vector_model, "
                "vector = excluded.vector, time = excluded.time",
                params,
            )
        )

    async def tombstones(self, partition: Partition, answer: str) -> tuple[Tombstone, ...]:
        """See `CacheRecords`."""
        rows = await self._database.read_rows(
            f"SELECT question, vector, vector_model FROM cache_feedback WHERE {_PARTITION} "
            "AND answer = :answer AND verdict = :wrong",
            _named(partition) | {"answer": answer, "wrong": int(Verdict.WRONG)},
        )
        return tuple(
            Tombstone(
                question,
                None if data is None else np.frombuffer(data, np.float16).astype(np.float32),
                model,
            )
            for question, data, model in rows
        )

    async def verdicts(self, partition: Partition) -> Mapping[Verdict, int]:
        """See `CacheRecords`."""
        rows = await self._database.read(
            lambda tx: tx.execute(
                f"SELECT verdict, COUNT(*) FROM cache_feedback WHERE {_PARTITION} GROUP BY verdict",
                _named(partition),
            )
        )
        return {Verdict(verdict): count for verdict, count in rows}

    async def add(self, counts: Mapping[Partition, Mapping[str, int]]) -> None:
        """See `CacheRecords`."""
        # In one order, so that two processes do not wait for each other.
        rows = sorted(
            (
                _named(partition) | {"name": name, "amount": amount}
                for partition, names in counts.items()
                for name, amount in names.items()
                if amount
            ),
            key=lambda row: tuple(map(str, row.values())),
        )
        await self._database.write(
            lambda tx: tx.execute_many(
                "INSERT INTO cache_counts (tenant, user_id, scope, session_id, name, amount) "
                "VALUES (:tenant, :user_id, :scope, :session_id, :name, :amount) "
                "ON CONFLICT (tenant, user_id, scope, session_id, name) DO UPDATE SET "
                "amount = cache_counts.amount + excluded.amount",
                rows,
            )
        )

    async def counts(self, partition: Partition) -> Mapping[str, int]:
        """See `CacheRecords`."""
        rows = await self._database.read(
            lambda tx: tx.execute(
                f"SELECT name, amount FROM cache_counts WHERE {_PARTITION}", _named(partition)
            )
        )
        return dict(map(tuple, rows))

    async def erase(self, owner: Scope) -> None:
        """See `CacheRecords`."""
        params = {"tenant": owner.tenant, "user_id": owner.user_id}

        def work(tx: Any) -> None:
            for table in ("cache_counts", "cache_feedback"):
                tx.execute(
                    f"DELETE FROM {table} WHERE tenant = :tenant AND user_id = :user_id", params
                )

        await self._database.write(work)


def _named(partition: Partition) -> dict[str, Any]:
    return {
        "tenant": partition.owner.tenant,
        "user_id": partition.owner.user_id,
        "scope": int(partition.scope),
        "session_id": partition.session_id,
    }
