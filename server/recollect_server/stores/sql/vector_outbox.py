"""What a transaction that changes vectors tells the vector stores.

`vector_feeds` holds, for each store and user, up to which revision the store has everything and
which one it wants; a feeder brings the first to the second. A store in this same database, which is
pgvector, is written by the transaction itself.
"""

from collections.abc import Sequence

from recollect_server.memory.model import MemoryKind
from recollect_server.memory.vector_store import FeedPage, ItemKey, VectorPoint
from recollect_server.stores.codec import from_microseconds
from recollect_server.stores.pgvector.table import delete_points, store_points
from recollect_server.stores.sql.database import Row, Transaction
from recollect_server.stores.sql.rows import to_vector

PGVECTOR_URL = "pgvector:"

_MARK = (
    "INSERT INTO vector_feeds (store_key, user_key, revision, wanted, lease, lease_until) "
    "SELECT store_key, :user_key, 0, :revision, 0, 0 FROM vector_stores WHERE fed = 1 "
    "ON CONFLICT (store_key, user_key) DO UPDATE SET wanted = excluded.wanted"
)


def vectors_stored(tx: Transaction, user_key: int, revision: int) -> None:
    """Tell the stores of vectors that were stored at this revision, which is the user's newest."""
    tx.execute(_MARK, {"user_key": user_key, "revision": revision})
    for name, model, dimensions in _own_tables(tx):
        page = read_page(tx, user_key, revision - 1, revision, model, dimensions)
        store_points(tx, name, user_key, page.points)


def vectors_deleted(
    tx: Transaction, user_key: int, revision: int, kind: MemoryKind, item_ids: Sequence[str]
) -> None:
    """Tell the stores of items that were deleted at this revision, which is the user's newest."""
    if not item_ids:
        return
    tx.execute(_MARK, {"user_key": user_key, "revision": revision})
    for name, _, _ in _own_tables(tx):
        delete_points(tx, name, user_key, [(kind, item_id) for item_id in item_ids])


def read_page(
    tx: Transaction, user_key: int, since: int, through: int, model: str, dimensions: int
) -> FeedPage:
    """Return what changed after revision `since`, up to `through`.

    An item that is there has its vector from a revision after any deletion of its id, so deletions
    go first.
    """
    params = {"user_key": user_key, "since": since, "through": through, "model": model}
    between = "user_revision > :since AND {0}user_revision <= :through"
    turns = tx.execute(
        "SELECT m.message_id, s.session_id, m.sequence, m.time, v.vector FROM message_vectors v "
        "JOIN messages m ON m.session_key = v.session_key AND m.sequence = v.sequence "
        "JOIN sessions s ON s.session_key = m.session_key WHERE v.user_key = :user_key "
        f"AND v.{between.format('v.')} AND v.model = :model",
        params,
    )
    facts = tx.execute(
        "SELECT fact_id, '', 0, valid_from, vector FROM facts WHERE user_key = :user_key "
        f"AND {between.format('')} AND is_current = 1 AND vector_model = :model",
        params,
    )
    episodes = tx.execute(
        "SELECT e.episode_id, s.session_id, 0, e.end_time, e.vector FROM episodes e "
        "JOIN sessions s ON s.session_key = e.session_key WHERE e.user_key = :user_key "
        f"AND e.{between.format('e.')} AND e.vector_model = :model",
        params,
    )
    gone = tx.execute(
        f"SELECT kind, item_id FROM tombstones WHERE user_key = :user_key AND {between.format('')}",
        params,
    )
    points: list[VectorPoint] = []
    for kind, rows in (
        (MemoryKind.TURN, turns),
        (MemoryKind.FACT, facts),
        (MemoryKind.EPISODE, episodes),
    ):
        points.extend(point for row in rows for point in _points(kind, row, dimensions))
    deletes: tuple[ItemKey, ...] = tuple((MemoryKind(kind), item_id) for kind, item_id in gone)
    return FeedPage(deletes, tuple(points), through)


def _own_tables(tx: Transaction) -> list[tuple[str, str, int]]:
    """Return (name, model, dimensions) of the tables of pgvector in this database."""
    # A table is dropped only once nobody holds its row.
    hold = " FOR KEY SHARE" if tx.for_update else ""
    return tx.execute(
        f"SELECT name, model, dimensions FROM vector_stores WHERE url = :url{hold}",
        {"url": PGVECTOR_URL},
    )


def _points(kind: MemoryKind, row: Row, dimensions: int) -> list[VectorPoint]:
    item_id, session_id, sequence, time, data = row
    # Several vectors of one item lie one after the other.
    size = 2 * dimensions
    return [
        VectorPoint(
            kind,
            item_id,
            session_id,
            sequence,
            from_microseconds(time),
            passage,
            to_vector(data[size * passage : size * (passage + 1)]),
        )
        for passage in range(max(1, len(data) // size))
    ]
