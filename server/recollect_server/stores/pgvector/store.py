"""A table of pgvector as a `VectorStore`."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.model import Vector
from recollect_server.memory.vector_store import ItemKey, VectorFilter, VectorHit, VectorPoint
from recollect_server.scope import Scope
from recollect_server.stores.pgvector.table import (
    create_table,
    delete_points,
    nearest_points,
    store_points,
    table_exists,
)
from recollect_server.stores.sql.database import Database, StatementError, Transaction
from recollect_server.stores.sql.users import find_user

T = TypeVar("T")

BATCH = 500
"""Points a transaction stores."""


class PgVectorStore:
    """Implements `memory.vector_store.VectorStore`.

    Args:
        database: PostgreSQL; the table lies in it.
        name: of the table.
        dimensions: length of a vector.
    """

    def __init__(self, database: Database, name: str, dimensions: int) -> None:
        self._database = database
        self._name = name
        self._dimensions = dimensions

    async def exists(self) -> bool:
        """See `VectorStore`."""
        return await self._read(lambda tx: table_exists(tx, self._name))

    async def create(self) -> None:
        """See `VectorStore`."""
        await self._write(lambda tx: create_table(tx, self._name, self._dimensions))

    async def upsert(self, scope: Scope, points: Sequence[VectorPoint]) -> None:
        """See `VectorStore`."""
        for start in range(0, len(points), BATCH):
            await self._store(scope, points[start : start + BATCH])

    async def delete(self, scope: Scope, keys: Sequence[ItemKey]) -> None:
        """See `VectorStore`."""
        await self._for_user(scope, lambda tx, key: delete_points(tx, self._name, key, keys))

    async def delete_user(self, scope: Scope) -> None:
        """See `VectorStore`."""
        await self._for_user(
            scope,
            lambda tx, key: tx.execute_many(
                f"DELETE FROM {self._name} WHERE user_key = :user_key", [{"user_key": key}]
            ),
        )

    async def search(
        self, scope: Scope, vector: Vector, filter: VectorFilter, limit: int
    ) -> tuple[VectorHit, ...]:
        """See `VectorStore`."""

        def work(tx: Transaction) -> tuple[VectorHit, ...]:
            user = find_user(tx, scope)
            if user is None:
                return ()
            return nearest_points(tx, self._name, user[0], vector, filter, limit)

        return await self._read(work)

    async def count(self, scope: Scope) -> int:
        """See `VectorStore`."""

        def work(tx: Transaction) -> int:
            user = find_user(tx, scope)
            rows = tx.execute(
                f"SELECT COUNT(*) FROM {self._name} WHERE user_key = :user_key",
                {"user_key": user[0] if user else 0},
            )
            return int(rows[0][0])

        return await self._read(work)

    async def drop(self) -> None:
        """See `VectorStore`."""

        def work(tx: Transaction) -> None:
            # Transactions hold this row while they write to the table.
            tx.execute("DELETE FROM vector_stores WHERE name = :name", {"name": self._name})
            tx.execute(f"DROP TABLE IF EXISTS {self._name}")

        await self._write(work)

    async def _store(self, scope: Scope, points: Sequence[VectorPoint]) -> None:
        await self._for_user(scope, lambda tx, key: store_points(tx, self._name, key, points))

    async def _for_user(self, scope: Scope, work: Callable[[Transaction, int], None]) -> None:
        def in_transaction(tx: Transaction) -> None:
            user = find_user(tx, scope, lock=True)
            if user is not None:
                work(tx, user[0])

        await self._write(in_transaction, scope)

    async def _write(self, work: Callable[[Transaction], T], scope: Scope | None = None) -> T:
        try:
            return await self._database.write(work, scope)
        except StatementError as error:
            raise _unusable() from error

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        try:
            return await self._database.read(work)
        except StatementError as error:
            raise _unusable() from error


def _unusable() -> Unavailable:
    return Unavailable(
        Reason.STORE_UNAVAILABLE,
        "PostgreSQL refuses the vector table: it needs the extension `vector` "
        "(CREATE EXTENSION vector)",
    )
