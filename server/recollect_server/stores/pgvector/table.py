"""The rows of a pgvector table, as parts of a transaction of the database they lie in."""

from collections.abc import Sequence

from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.memory.vector_store import ItemKey, VectorFilter, VectorHit, VectorPoint
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql.database import Transaction


def table_exists(tx: Transaction, name: str) -> bool:
    """Whether the table is there."""
    return bool(tx.execute("SELECT 1 FROM pg_class WHERE oid = to_regclass(:name)", {"name": name}))


def create_table(tx: Transaction, name: str, dimensions: int) -> None:
    """Make the table unless it is there."""
    if table_exists(tx, name):
        return
    tx.execute("CREATE EXTENSION IF NOT EXISTS vector")
    # The planner never takes the primary key's index for an order by distance, so a search is an
    # exact scan of one user's rows. An HNSW index would be the wrong tool: before pgvector 0.8 it
    # finds the nearest of all users first and filters then.
    tx.execute(
        f"CREATE TABLE {name} (user_key BIGINT NOT NULL, kind SMALLINT NOT NULL, "
        'item_id TEXT COLLATE "C" NOT NULL, passage INTEGER NOT NULL, '
        'session_id TEXT COLLATE "C" NOT NULL, time BIGINT NOT NULL, '
        f"vector vector({int(dimensions)}) NOT NULL, "
        "PRIMARY KEY (user_key, kind, item_id, passage))"
    )


def store_points(tx: Transaction, name: str, user_key: int, points: Sequence[VectorPoint]) -> None:
    """Store points; an item's points are replaced as a whole."""
    counts: dict[ItemKey, int] = {}
    for point in points:
        key = (point.kind, point.item_id)
        counts[key] = max(counts.get(key, 0), point.passage + 1)
    tx.execute_many(
        f"DELETE FROM {name} WHERE user_key = :user_key AND kind = :kind AND item_id = :item_id "
        "AND passage >= :passages",
        [
            {"user_key": user_key, "kind": int(kind), "item_id": item_id, "passages": count}
            for (kind, item_id), count in counts.items()
        ],
    )
    tx.execute_many(
        f"INSERT INTO {name} (user_key, kind, item_id, passage, session_id, time, vector) VALUES "
        "(:user_key, :kind, :item_id, :passage, :session_id, :time, CAST(:vector AS vector)) "
        "ON CONFLICT (user_key, kind, item_id, passage) DO UPDATE SET "
        "session_id = excluded.session_id, time = excluded.time, vector = excluded.vector",
        [
            {
                "user_key": user_key,
                "kind": int(point.kind),
                "item_id": point.item_id,
                "passage": point.passage,
                "session_id": point.session_id,
                "time": to_microseconds(point.time),
                "vector": _literal(point.vector),
            }
            for point in points
        ],
    )


def delete_points(tx: Transaction, name: str, user_key: int, keys: Sequence[ItemKey]) -> None:
    """Delete all points of items."""
    for kind in {kind for kind, _ in keys}:
        tx.execute_many(
            f"DELETE FROM {name} WHERE user_key = :user_key AND kind = :kind "
            "AND item_id = ANY(:item_ids)",
            [
                {
                    "user_key": user_key,
                    "kind": int(kind),
                    "item_ids": [item_id for of, item_id in keys if of is kind],
                }
            ],
        )


def nearest_points(
    tx: Transaction, name: str, user_key: int, vector: Vector, filter: VectorFilter, limit: int
) -> tuple[VectorHit, ...]:
    """Return up to `limit` points that pass the filter, most similar first."""
    clauses, params = (
        "",
        dict[str, object](
            user_key=user_key,
            kinds=[int(kind) for kind in filter.kinds],
            vector=_literal(vector),
            limit=limit,
        ),
    )
    if filter.session_ids:
        clauses += "AND session_id = ANY(:sessions) "
        params["sessions"] = list(filter.session_ids)
    if filter.start is not None:
        clauses += "AND time >= :start "
        params["start"] = to_microseconds(filter.start)
    if filter.end is not None:
        clauses += "AND time < :end "
        params["end"] = to_microseconds(filter.end)
    rows = tx.execute(
        "SELECT kind, item_id, passage, (vector <#> CAST(:vector AS vector)) AS far "
        f"FROM {name} WHERE user_key = :user_key AND kind = ANY(:kinds) {clauses}"
        "ORDER BY far, kind, item_id, passage LIMIT :limit",
        params,
    )
    return tuple(VectorHit(MemoryKind(row[0]), row[1], row[2], -row[3]) for row in rows)


def _literal(vector: Vector) -> str:
    return f"[{','.join(map(str, vector.tolist()))}]"
