"""Vectors of single items, as an index that holds none of them needs to rank its candidates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.memory.vector_store import ItemKey, ItemPlace
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database, Transaction
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
    params: dict[str, Any] = {"user_key": user_key, "model": model}
    if kind is MemoryKind.TURN:
        places = []
        for number, item in enumerate(items):
            places.append(f"(:s{number}, :n{number})")
            params |= {f"s{number}": item.session_id, f"n{number}": item.sequence}
        statement = (
            "SELECT m.message_id, v.vector FROM sessions s JOIN message_vectors v "
            "ON v.session_key = s.session_key JOIN messages m ON m.session_key = v.session_key "
            "AND m.sequence = v.sequence WHERE s.user_key = :user_key AND v.model = :model "
            f"AND (s.session_id, v.sequence) IN (VALUES {', '.join(places)})"
        )
    else:
        names = []
        for number, item in enumerate(items):
            names.append(f":i{number}")
            params[f"i{number}"] = item.item_id
        if kind is MemoryKind.FACT:
            statement = (
                "SELECT fact_id, vector FROM facts WHERE user_key = :user_key AND is_current = 1 "
                f"AND vector_model = :model AND fact_id IN ({', '.join(names)})"
            )
        else:
            statement = (
                "SELECT episode_id, vector FROM episodes WHERE user_key = :user_key "
                f"AND vector_model = :model AND episode_id IN ({', '.join(names)})"
            )
    return iter(tx.execute(statement, params))
