"""The rows of a user who is erased; see `admin.erasing`.

Beginning an erasure renames the user's row, which hides everything at once, and removes what work
under way would go by: sessions, jobs, running turns. The other rows go bit by bit.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from recollect_server.admin.erasure import (
    SQL,
    Bite,
    ErasedStore,
    Erasure,
    pseudonym,
)
from recollect_server.ids import uuid7
from recollect_server.memory.audit import Caller
from recollect_server.scope import Scope
from recollect_server.stores.codec import from_microseconds, pack, to_microseconds, unpack
from recollect_server.stores.pgvector.table import table_exists
from recollect_server.stores.sql.audit import record_event
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.users import erased_digest, find_user
from recollect_server.stores.sql.vector_outbox import PGVECTOR_URL

BY_USER_KEY: dict[str, str] = {
    "jobs": "job_id",
    "sessions": "session_key",
    "turn_queue": "session_key, turn_id",
    "turn_events": "user_key, turn_id, attempt, last_event",
    "turns": "user_key, turn_id",
    "messages": "session_key, sequence",
    "message_vectors": "session_key, sequence",
    "facts": "user_key, fact_id, version",
    "fact_notices": "user_key, user_revision, fact_id",
    "episodes": "user_key, episode_id",
    "changes": "user_key, user_revision, number",
    "tombstones": "user_key, user_revision, kind, item_id",
    "pending_vectors": "user_key, user_revision, kind, session_key, sequence, item_id",
}
"""Tables with a `user_key`, and their primary keys. A test compares them with the schema."""

BY_USER_ID: dict[str, str] = {
    "requests": "tenant, user_id, method, request_id",
    "cache_counts": "tenant, user_id, scope, session_id, name",
    "cache_feedback": "tenant, user_id, scope, session_id, answer, question",
    "api_keys": "key_id",
}
"""Tables with a `tenant` and a `user_id`, and their primary keys."""

SPECIAL = frozenset({"users", "erasures", "audit_events", "vector_feeds", "imports"})
"""Tables that name users and are treated in ways of their own: `users` and `erasures` keep rows
without the user's name, audit events get a pseudonym, feeds stay until nobody holds them, and
imports are of users who are not there yet."""

BITE = 1000
_SECOND = 1_000_000
_OF_USER = "user_key IN (SELECT user_key FROM users WHERE erased = :erased)"
_NAMED = "tenant = :tenant AND user_id = :user_id"
_COLUMNS = "erasure_id, erased, tenant, user_id, removed, complete, event_id, create_time"
_PGVECTOR_KEY = "user_key, kind, item_id, passage"


class SqlErasures:
    """Implements `admin.erasure.ErasureStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, scope: Scope, request_id: str, caller: Caller) -> Erasure:
        """See `ErasureStore`."""
        now = self._now()

        def work(tx: Transaction) -> Erasure:
            erased = erased_digest(tx, scope)
            found = tx.execute(
                f"SELECT {_COLUMNS} FROM erasures WHERE erased = :erased AND (complete = 0 "
                "OR (request_id = :request_id AND request_id <> '')) "
                "ORDER BY complete, create_time DESC LIMIT 1",
                {"erased": erased, "request_id": request_id},
            )
            if found:
                return _to_erasure(found[0])
            rows = tx.execute(
                "INSERT INTO erasures (erasure_id, erased, request_id, tenant, user_id, key_id, "
                "call_id, complete, removed, lease, lease_until, event_id, create_time) VALUES "
                "(:erasure_id, :erased, :request_id, :tenant, :user_id, :key_id, :call_id, 0, "
                f":removed, 0, 0, '', :now) RETURNING {_COLUMNS}",
                {
                    "erasure_id": uuid7(),
                    "erased": erased,
                    "request_id": request_id,
                    "tenant": scope.tenant,
                    "user_id": scope.user_id,
                    "key_id": caller.key_id,
                    "call_id": caller.call_id,
                    "removed": pack({SQL: [_hide(tx, scope, erased), 0, ""]}),
                    "now": now,
                },
            )
            return _to_erasure(rows[0])

        return await self._database.write(work, scope)

    async def get(self, erasure_id: str) -> Erasure:
        """See `ErasureStore`."""
        rows = await self._database.read_rows(
            f"SELECT {_COLUMNS} FROM erasures WHERE erasure_id = :erasure_id",
            {"erasure_id": erasure_id},
        )
        return _to_erasure(rows[0])

    async def open_erasures(self) -> tuple[Erasure, ...]:
        """See `ErasureStore`."""
        rows = await self._database.read_rows(
            f"SELECT {_COLUMNS} FROM erasures WHERE complete = 0 ORDER BY create_time", {}
        )
        return tuple(_to_erasure(row) for row in rows)

    async def lease(self, erasure_id: str, seconds: float) -> bool:
        """See `ErasureStore`."""
        now = self._now()
        rows = await self._database.write(
            lambda tx: tx.execute(
                "UPDATE erasures SET lease = lease + 1, lease_until = :until "
                "WHERE erasure_id = :erasure_id AND complete = 0 AND lease_until <= :now "
                "RETURNING 1",
                {"erasure_id": erasure_id, "now": now, "until": now + int(seconds * _SECOND)},
            )
        )
        return bool(rows)

    async def prolong(self, erasure_id: str, seconds: float) -> None:
        """See `ErasureStore`."""
        until = self._now() + int(seconds * _SECOND)
        await self._database.write(
            lambda tx: tx.execute(
                "UPDATE erasures SET lease_until = :until WHERE erasure_id = :erasure_id",
                {"erasure_id": erasure_id, "until": until},
            )
        )

    async def remove_rows(self, erasure: Erasure) -> Bite:
        """See `ErasureStore`."""
        params = _params(erasure)

        def work(tx: Transaction) -> Bite:
            removed: dict[str, int] = {SQL: 0}
            room = BITE
            assert erasure.scope is not None, "rows are removed before their user is forgotten"
            removed[SQL] += _hide(tx, erasure.scope, erasure.erased)
            for store, table, key, whose in _tables(tx):
                gone = tx.execute(
                    f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} "
                    f"WHERE {whose} LIMIT :room) RETURNING 1",
                    params | {"room": room},
                )
                removed[store] = removed.get(store, 0) + len(gone)
                room -= len(gone)
                if room <= 0:
                    break
            else:
                room -= len(
                    tx.execute(
                        "UPDATE audit_events SET user_id = :pseudonym, resource = '', "
                        "salt = NULL "
                        "WHERE (tenant, event_id) IN (SELECT tenant, event_id FROM audit_events "
                        f"WHERE {_NAMED} LIMIT :room) RETURNING 1",
                        params | {"room": room},
                    )
                )
            for store, count in removed.items():
                if count:
                    _note(tx, erasure.erasure_id, store, ErasedStore(count))
            return Bite(removed, more=room <= 0)

        return await self._database.write(work, erasure.scope)

    async def count_rows(self, erasure: Erasure) -> Mapping[str, int]:
        """See `ErasureStore`."""
        params = _params(erasure)

        def work(tx: Transaction) -> Mapping[str, int]:
            found: dict[str, int] = {SQL: 0}
            searched = [*_tables(tx), *((SQL, table, "", _NAMED) for table in _NAMED_ELSEWHERE)]
            for store, table, _, whose in searched:
                count = tx.execute(f"SELECT COUNT(*) FROM {table} WHERE {whose}", params)[0][0]
                found[store] = found.get(store, 0) + int(count)
            return found

        return await self._database.read(work)

    async def being_fed(self, erasure: Erasure) -> bool:
        """See `ErasureStore`."""
        now = self._now()

        def work(tx: Transaction) -> bool:
            tx.execute(
                f"DELETE FROM vector_feeds WHERE {_OF_USER} AND lease_until <= :now",
                {"erased": erasure.erased, "now": now},
            )
            held = tx.execute(
                f"SELECT 1 FROM vector_feeds WHERE {_OF_USER} LIMIT 1", {"erased": erasure.erased}
            )
            return bool(held)

        return await self._database.write(work)

    async def note(self, erasure_id: str, name: str, store: ErasedStore) -> None:
        """See `ErasureStore`."""
        await self._database.write(lambda tx: _note(tx, erasure_id, name, store))

    async def conclude(self, erasure: Erasure) -> None:
        """See `ErasureStore`."""
        now = self._now()

        def work(tx: Transaction) -> None:
            rows = tx.execute(
                "SELECT tenant, key_id, call_id, removed FROM erasures "
                f"WHERE erasure_id = :erasure_id AND tenant <> ''{tx.for_update}",
                {"erasure_id": erasure.erasure_id},
            )
            if not rows:
                return
            tenant, key_id, call_id, receipt = rows[0]
            event_id = record_event(
                tx,
                Scope(tenant, pseudonym(erasure.erased)),
                Caller(key_id, "recollect.v1.AdminService/EraseUser", call_id),
                _in_words(erasure.erasure_id, _stores(receipt)),
                "OK",
                now,
            )
            tx.execute(
                "UPDATE erasures SET tenant = '', user_id = '', event_id = :event_id "
                "WHERE erasure_id = :erasure_id",
                {"erasure_id": erasure.erasure_id, "event_id": event_id},
            )

        await self._database.write(work)

    async def clean_files(self) -> None:
        """See `ErasureStore`."""
        tables = await self._database.read(lambda tx: [table for _, table, _, _ in _tables(tx)])
        await self._database.compact([*tables, *SPECIAL])

    async def complete(self, erasure_id: str) -> None:
        """See `ErasureStore`."""
        now = self._now()
        await self._database.write(
            lambda tx: tx.execute(
                "UPDATE erasures SET complete = 1, end_time = :now WHERE erasure_id = :erasure_id",
                {"erasure_id": erasure_id, "now": now},
            )
        )

    def _now(self) -> int:
        return to_microseconds(self._clock())


_NAMED_ELSEWHERE = ("users", "audit_events")
"""Tables that must not name the user any more, either."""


def _hide(tx: Transaction, scope: Scope, erased: bytes) -> int:
    """Rename the user, so that nobody finds them, and remove what work under way goes by.

    Returns:
        How many rows were removed.
    """
    user = find_user(tx, scope, lock=True)
    if user is None:
        return 0
    # One more step than any watcher has seen, so that each learns that what it saw is gone.
    tx.execute(
        "UPDATE users SET tenant = '', user_id = :name, erased = :erased, revision = revision + 1 "
        "WHERE user_key = :user_key",
        {"name": f"erased:{uuid7()}", "erased": erased, "user_key": user[0]},
    )
    removed = 0
    for what in ("jobs", "sessions", "turn_queue"):
        removed += len(
            tx.execute(
                f"DELETE FROM {what} WHERE user_key = :user_key RETURNING 1", {"user_key": user[0]}
            )
        )
    running = tx.execute(
        "DELETE FROM turns WHERE user_key = :user_key AND state = 1 RETURNING 1",
        {"user_key": user[0]},
    )
    keys = tx.execute(
        f"DELETE FROM api_keys WHERE {_NAMED} RETURNING 1",
        {"tenant": scope.tenant, "user_id": scope.user_id},
    )
    return removed + len(running) + len(keys)


def _tables(tx: Transaction) -> list[tuple[str, str, str, str]]:
    """Return (store, table, primary key, condition) of all tables with rows of users."""
    own = tx.execute("SELECT name FROM vector_stores WHERE url = :url", {"url": PGVECTOR_URL})
    return [
        *(
            (f"index:{name}", name, _PGVECTOR_KEY, _OF_USER)
            for (name,) in own
            if table_exists(tx, name)
        ),
        *((SQL, table, key, _OF_USER) for table, key in BY_USER_KEY.items()),
        *((SQL, table, key, _NAMED) for table, key in BY_USER_ID.items()),
    ]


def _note(tx: Transaction, erasure_id: str, name: str, store: ErasedStore) -> None:
    rows = tx.execute(
        f"SELECT removed FROM erasures WHERE erasure_id = :erasure_id{tx.for_update}",
        {"erasure_id": erasure_id},
    )
    stores: dict[str, Any] = unpack(bytes(rows[0][0]))
    before = stores.get(name, [0])[0]
    stores[name] = [before + store.removed, store.remaining, store.problem]
    tx.execute(
        "UPDATE erasures SET removed = :removed WHERE erasure_id = :erasure_id",
        {"erasure_id": erasure_id, "removed": pack(stores)},
    )


def _params(erasure: Erasure) -> dict[str, Any]:
    scope = erasure.scope or Scope("", "")
    return {
        "erased": erasure.erased,
        "tenant": scope.tenant,
        "user_id": scope.user_id,
        "pseudonym": pseudonym(erasure.erased),
    }


def _stores(data: bytes) -> dict[str, ErasedStore]:
    return {name: ErasedStore(*fields) for name, fields in unpack(bytes(data)).items()}


def _in_words(erasure_id: str, stores: Mapping[str, ErasedStore]) -> str:
    removed = " ".join(f"{name}={store.removed}" for name, store in sorted(stores.items()))
    return f"erasure_id={erasure_id} {removed}"


def _to_erasure(row: Row) -> Erasure:
    return Erasure(
        erasure_id=row[0],
        erased=bytes(row[1]),
        scope=Scope(row[2], row[3]) if row[2] else None,
        stores=_stores(row[4]),
        complete=bool(row[5]),
        event_id=row[6],
        create_time=from_microseconds(row[7]),
    )
