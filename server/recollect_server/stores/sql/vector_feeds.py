"""The registered vector stores, and how far each is behind; see `stores.sql.vector_outbox`."""

from collections.abc import Callable
from datetime import datetime

from recollect_server.errors import InvalidArgument
from recollect_server.ids import uuid7
from recollect_server.memory.due import JobKind
from recollect_server.memory.vector_store import (
    Feed,
    FeedPage,
    RegisteredStore,
    VectorStoreState,
)
from recollect_server.scope import Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.pending import indexed_revision
from recollect_server.stores.sql.users import find_user
from recollect_server.stores.sql.vector_outbox import PGVECTOR_URL, read_page

PAGE = 500
"""About how many changes are fed at once; those of one revision are not parted."""

LEASE_SECONDS = 40
RETRY_SECONDS = 1
SETTLE_SECONDS = 2.0
"""Transactions that began before a store was registered, and so did not write for it, are over
after this time; then every user is looked at once more."""

_SECOND = 1_000_000
_COLUMNS = "store_key, name, url, model, dimensions, fed, state, state_time"
_EVERYONE = (
    "INSERT INTO vector_feeds (store_key, user_key, revision, wanted, lease, lease_until) "
    "SELECT :store_key, user_key, 0, revision, 0, 0 FROM users WHERE tenant <> '' "
    "ON CONFLICT (store_key, user_key) DO UPDATE SET wanted = excluded.wanted"
)


class SqlVectorFeeds:
    """Implements `memory.vector_store.VectorFeeds` and `memory.reindexing.VectorStoreRegistry`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def stores(self) -> tuple[RegisteredStore, ...]:
        """See `VectorFeeds`."""
        rows = await self._database.read_rows(
            f"SELECT {_COLUMNS} FROM vector_stores ORDER BY store_key", {}
        )
        return tuple(_to_store(row) for row in rows)

    async def lease_feed(self, store: RegisteredStore) -> Feed | None:
        """See `VectorFeeds`."""
        now = self._now()
        params = {"store_key": store.store_key, "now": now}
        behind = (
            "FROM vector_feeds WHERE store_key = :store_key AND wanted > revision "
            "AND lease_until <= :now AND user_key NOT IN "
            "(SELECT user_key FROM users WHERE tenant = '')"
        )
        if not await self._database.read_rows(f"SELECT 1 {behind} LIMIT 1", params):
            return None

        def work(tx: Transaction) -> Feed | None:
            rows = tx.execute(
                "UPDATE vector_feeds SET lease = lease + 1, lease_until = :until "
                "WHERE store_key = :store_key AND user_key = (SELECT user_key "
                f"{behind} ORDER BY lease_until LIMIT 1{tx.skip_locked}) "
                "RETURNING user_key, revision, lease",
                params | {"until": now + LEASE_SECONDS * _SECOND},
            )
            if not rows:
                return None
            user_key, revision, lease = rows[0]
            tenant, user_id = tx.execute(
                "SELECT tenant, user_id FROM users WHERE user_key = :user_key",
                {"user_key": user_key},
            )[0]
            return Feed(store, Scope(tenant, user_id), user_key, revision, lease)

        return await self._database.write(work)

    async def read_page(self, feed: Feed) -> FeedPage:
        """See `VectorFeeds`."""
        return await self._database.read(lambda tx: _read_page(tx, feed))

    async def advance(self, feed: Feed, through: int) -> None:
        """See `VectorFeeds`."""

        def work(tx: Transaction) -> None:
            done = tx.execute(
                "UPDATE vector_feeds SET revision = :through, lease_until = 0 "
                "WHERE store_key = :store_key AND user_key = :user_key AND lease = :lease "
                "RETURNING wanted - revision",
                _key(feed) | {"through": through},
            )
            if done and done[0][0] <= 0:
                tx.execute(
                    "DELETE FROM jobs WHERE kind = :kind AND user_key = :user_key",
                    {"kind": str(JobKind.REINDEX), "user_key": feed.user_key},
                )

        await self._database.write(work)

    async def give_back(self, feed: Feed, error: str) -> None:
        """See `VectorFeeds`."""
        until = self._now() + RETRY_SECONDS * _SECOND

        def work(tx: Transaction) -> None:
            tx.execute(
                "UPDATE vector_feeds SET lease_until = :until WHERE store_key = :store_key "
                "AND user_key = :user_key AND lease = :lease",
                _key(feed) | {"until": until},
            )
            moving = feed.store.state is VectorStoreState.FILLING
            tx.execute(
                "UPDATE jobs SET last_error = :error, attempts = attempts + 1 "
                "WHERE kind = :kind AND user_key IN (:user_key, :everyone)",
                {
                    "error": error,
                    "kind": str(JobKind.REINDEX),
                    "user_key": feed.user_key,
                    "everyone": 0 if moving else feed.user_key,
                },
            )

        await self._database.write(work)

    async def refill(self, store: RegisteredStore) -> None:
        """See `VectorFeeds`."""
        await self._database.write(
            lambda tx: tx.execute(
                "UPDATE vector_feeds SET revision = 0, lease = lease + 1, lease_until = 0 "
                "WHERE store_key = :store_key",
                {"store_key": store.store_key},
            )
        )

    async def take_over(self, store: RegisteredStore) -> bool:
        """See `VectorFeeds`."""
        now = self._now()
        return await self._database.write(lambda tx: _take_over(tx, store.store_key, now))

    async def forget_store(self, store: RegisteredStore) -> None:
        """See `VectorFeeds`."""

        def work(tx: Transaction) -> None:
            for table in ("vector_feeds", "vector_stores"):
                tx.execute(
                    f"DELETE FROM {table} WHERE store_key = :store_key",
                    {"store_key": store.store_key},
                )

        await self._database.write(work)

    async def indexed_revision(self, store: RegisteredStore, scope: Scope) -> tuple[int, int]:
        """Return the user's revision, and the one up to which the store has everything."""

        def work(tx: Transaction) -> tuple[int, int]:
            user = find_user(tx, scope)
            if user is None:
                return 0, 0
            indexed = indexed_revision(tx, *user, store.model)
            behind = tx.execute(
                "SELECT revision FROM vector_feeds WHERE store_key = :store_key "
                "AND user_key = :user_key AND wanted > revision",
                {"store_key": store.store_key, "user_key": user[0]},
            )
            return user[1], min([indexed, *(row[0] for row in behind)])

        return await self._database.read(work)

    async def behind(self, store: RegisteredStore) -> int:
        """Return how many users' points are behind."""
        rows = await self._database.read_rows(
            "SELECT COUNT(*) FROM vector_feeds WHERE store_key = :store_key AND wanted > revision",
            {"store_key": store.store_key},
        )
        return int(rows[0][0])

    async def register(
        self, name: str, url: str, model: str, dimensions: int, *, fed: bool
    ) -> tuple[RegisteredStore, str]:
        """See `VectorStoreRegistry`."""
        now = self._now()

        def work(tx: Transaction) -> tuple[RegisteredStore, str]:
            tx.execute(
                "UPDATE vector_stores SET state = 'retired', state_time = :now "
                "WHERE state = 'filling'",
                {"now": now},
            )
            rows = tx.execute(
                "INSERT INTO vector_stores (name, url, model, dimensions, fed, state, state_time, "
                "swept) VALUES (:name, :url, :model, :dimensions, :fed, 'filling', :now, 0) "
                f"RETURNING {_COLUMNS}",
                {
                    "name": name,
                    "url": url,
                    "model": model,
                    "dimensions": dimensions,
                    "fed": int(fed),
                    "now": now,
                },
            )
            store = _to_store(rows[0])
            if fed:
                tx.execute(_EVERYONE, {"store_key": store.store_key})
            _forget_move(tx)
            return store, _queue(tx, 0, now)

        return await self._database.write(work)

    async def refill_user(self, scope: Scope) -> str:
        """See `VectorStoreRegistry`."""
        now = self._now()

        def work(tx: Transaction) -> str:
            user = find_user(tx, scope, lock=True)
            if user is None:
                raise InvalidArgument("user_id", "must name a user with data")
            params = {"user_key": user[0], "revision": user[1]}
            tx.execute(
                "INSERT INTO vector_feeds (store_key, user_key, revision, wanted, lease, "
                "lease_until) SELECT store_key, :user_key, 0, :revision, 0, 0 FROM vector_stores "
                "WHERE fed = 1 ON CONFLICT (store_key, user_key) DO UPDATE SET revision = 0, "
                "wanted = excluded.wanted, lease = vector_feeds.lease + 1, lease_until = 0",
                params,
            )
            return _queue(tx, user[0], now)

        return await self._database.write(work)

    async def chosen_url(self) -> str:
        """See `VectorStoreRegistry`."""
        rows = await self._database.read_rows("SELECT url FROM vector_choice", {})
        return rows[0][0] if rows else ""

    async def choose_url(self, url: str) -> None:
        """See `VectorStoreRegistry`."""
        await self._database.write(
            lambda tx: tx.execute(
                "INSERT INTO vector_choice (number, url) VALUES (1, :url) "
                "ON CONFLICT (number) DO UPDATE SET url = excluded.url",
                {"url": url},
            )
        )

    def _now(self) -> int:
        return to_microseconds(self._clock())


def _to_store(row: Row) -> RegisteredStore:
    return RegisteredStore(
        store_key=row[0],
        name=row[1],
        url=row[2],
        model=row[3],
        dimensions=row[4],
        fed=bool(row[5]),
        state=VectorStoreState(row[6]),
        state_time=from_microseconds(row[7]),
    )


def _key(feed: Feed) -> dict[str, int]:
    return {"store_key": feed.store.store_key, "user_key": feed.user_key, "lease": feed.lease}


def _read_page(tx: Transaction, feed: Feed) -> FeedPage:
    params = {
        "user_key": feed.user_key,
        "since": feed.revision,
        "model": feed.store.model,
        "skipped": PAGE - 1,
    }
    where = "WHERE user_key = :user_key AND user_revision > :since"
    last = tx.execute(
        f"SELECT user_revision FROM (SELECT user_revision FROM message_vectors {where} UNION ALL "
        f"SELECT user_revision FROM facts {where} UNION ALL "
        f"SELECT user_revision FROM episodes {where} UNION ALL "
        f"SELECT user_revision FROM tombstones {where}) AS changed "
        "ORDER BY user_revision LIMIT 1 OFFSET :skipped",
        params,
    )
    newest = tx.execute("SELECT revision FROM users WHERE user_key = :user_key", params)
    through = last[0][0] if last else newest[0][0] if newest else feed.revision
    store = feed.store
    return read_page(tx, feed.user_key, feed.revision, through, store.model, store.dimensions)


def _take_over(tx: Transaction, store_key: int, now: int) -> bool:
    params = {"store_key": store_key, "now": now}
    found = tx.execute(
        "SELECT fed, swept, state_time, url FROM vector_stores WHERE store_key = :store_key "
        f"AND state = 'filling'{tx.for_update}",
        params,
    )
    if not found:
        return False
    fed, swept, registered, url = found[0]
    if fed and not swept:
        if now - registered >= SETTLE_SECONDS * _SECOND:
            tx.execute(_EVERYONE, params)
            tx.execute("UPDATE vector_stores SET swept = 1 WHERE store_key = :store_key", params)
        return False
    behind = tx.execute(
        "SELECT 1 FROM vector_feeds WHERE store_key = :store_key AND wanted > revision LIMIT 1",
        params,
    )
    if behind:
        return False
    tx.execute(
        "UPDATE vector_stores SET state = 'retired', state_time = :now WHERE state = 'active'",
        params,
    )
    tx.execute(
        "UPDATE vector_stores SET state = 'active', state_time = :now, fed = :fed "
        "WHERE store_key = :store_key",
        params | {"fed": int(fed and url != PGVECTOR_URL)},
    )
    _forget_move(tx)
    return True


def _forget_move(tx: Transaction) -> None:
    tx.execute(
        "DELETE FROM jobs WHERE kind = :kind AND user_key = 0", {"kind": str(JobKind.REINDEX)}
    )


def _queue(tx: Transaction, user_key: int, now: int) -> str:
    """Record the work for administrators to see; a feeder does it, and removes the record."""
    rows = tx.execute(
        "INSERT INTO jobs (job_id, kind, user_key, session_key, state, again, attempts, run_time, "
        "lease, last_error, create_time) VALUES (:job_id, :kind, :user_key, 0, 'running', 0, 0, "
        ":now, 0, '', :now) ON CONFLICT (kind, user_key, session_key) DO UPDATE SET "
        "run_time = excluded.run_time RETURNING job_id",
        {"job_id": uuid7(), "kind": str(JobKind.REINDEX), "user_key": user_key, "now": now},
    )
    job_id: str = rows[0][0]
    return job_id
