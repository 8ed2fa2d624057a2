"""Vectors of single items, as an index that holds none of them needs to rank its candidates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.memory.vector_store import ItemKey, ItemPlace
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.listed import listed
from recollect_server.stores.sql.rows import to_vector
from recollect_server.stores.sql.users import find_user

AT_ONCE = 400
"""Items a statement names; databases limit its parameters."""


class SqlVectorSource:
    """Implements `memory.vector_store.VectorSource`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_vectors(
        self, scope: Scope, items: Sequence[ItemPlace], model: str
    ) -> Mapping[ItemKey, Vector]:
        """See `VectorSource`."""
        if not items:
            return {}

        def work(tx: Transaction) -> Mapping[ItemKey, Vector]:
            user = find_user(tx, scope)
            if user is None:
                return {}
            found: dict[ItemKey, Vector] = {}
            for kind in MemoryKind:
                of_kind = [item for item in items if item.kind is kind]
                for start in range(0, len(of_kind), AT_ONCE):
                    rows = _rows(tx, user[0], kind, of_kind[start : start + AT_ONCE], model)
                    found |= {(kind, item_id): to_vector(data) for item_id, data in rows}
            return found

        return await self._database.read(work)


def _rows(
    tx: Transaction, user_key: int, kind: MemoryKind, items: Sequence[ItemPlace], model: str
) -> Iterator[Any]:
    if kind is MemoryKind.TURN:
        wanted, params = listed([(item.session_id, item.sequence) for item in items])
        found = (
            "SELECT m.message_id, v.vector FROM wanted w JOIN sessions s "
            "ON s.user_key = :user_key AND s.session_id = w.session_id "
            "JOIN message_vectors v ON v.session_key = s.session_key AND v.sequence = w.sequence "
            "JOIN messages m ON m.session_key = v.session_key AND m.sequence = v.sequence "
            "WHERE v.model = :model"
        )
        statement = f"WITH wanted (session_id, sequence) AS ({wanted}) {found}"
    else:
        wanted, params = listed([(item.item_id,) for item in items])
        if kind is MemoryKind.FACT:
            found = (
                "SELECT fact_id, vector FROM facts WHERE user_key = :user_key AND is_current = 1 "
                "AND vector_model = :model AND fact_id IN"
            )
        else:
            found = (
                "SELECT episode_id, vector FROM episodes WHERE user_key = :user_key "
                "AND vector_model = :model AND episode_id IN"
            )
        statement = f"{found} ({wanted})"
    return iter(tx.execute(statement, params | {"user_key": user_key, "model": model}))
