"""Imports: a hidden user is written bit by bit, and named in one step when all is there.

The hidden user's row has no tenant and an id made by the server, so no caller can name it. What a
broken import leaves is removed bit by bit, too; the row itself stays, so that its key is not used
again.
"""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from recollect_server.admin.portability import Item
from recollect_server.errors import Aborted, AlreadyExists, Reason
from recollect_server.ids import uuid7
from recollect_server.memory.due import JobKind
from recollect_server.scope import Scope
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql.database import Database, Transaction
from recollect_server.stores.sql.erasing import BITE, BY_USER_KEY
from recollect_server.stores.sql.import_records import RecordWriter
from recollect_server.stores.sql.jobs import queue_job
from recollect_server.stores.sql.users import (
    being_erased,
    erased_digest,
    erased_revision,
    find_user,
    step_key,
)

ABANDONED_SECONDS = 600
"""A hidden user that got no record for so long belongs to an import that broke."""

_SECOND = 1_000_000


class SqlImports:
    """Implements `admin.portability.ImportStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def begin_import(self, scope: Scope) -> int:
        """See `ImportStore`."""
        now = self._now()

        def work(tx: Transaction) -> int:
            before = _check_free(tx, scope)
            rows = tx.execute(
                "INSERT INTO users (tenant, user_id, revision) VALUES ('', :name, :revision) "
                "RETURNING user_key",
                {"name": f"import:{uuid7()}", "revision": before},
            )
            tx.execute(
                "INSERT INTO imports (user_key, write_time) VALUES (:user_key, :now)",
                {"user_key": rows[0][0], "now": now},
            )
            return int(rows[0][0])

        return await self._database.write(work)

    async def add_records(self, user_key: int, records: Sequence[Item]) -> None:
        """See `ImportStore`."""
        now = self._now()

        def work(tx: Transaction) -> None:
            _hold(tx, user_key, now)
            writer = RecordWriter(tx, user_key, step_key(tx, user_key), now)
            for record in records:
                writer.add(record)
            writer.close()

        await self._database.write(work)

    async def publish(self, user_key: int, scope: Scope) -> None:
        """See `ImportStore`."""
        now = self._now()

        def work(tx: Transaction) -> None:
            _hold(tx, user_key, now)
            before = _check_free(tx, scope)
            revision = step_key(tx, user_key)
            if revision <= before:
                raise Aborted(
                    Reason.USER_BEING_ERASED, "the user was erased meanwhile; import again"
                )
            # Changes before this revision were never there for anybody to watch.
            tx.execute(
                "UPDATE users SET tenant = :tenant, user_id = :user_id, "
                "pruned_revision = :revision WHERE user_key = :user_key",
                {
                    "tenant": scope.tenant,
                    "user_id": scope.user_id,
                    "revision": revision,
                    "user_key": user_key,
                },
            )
            tx.execute("DELETE FROM imports WHERE user_key = :user_key", {"user_key": user_key})
            if tx.execute(
                "SELECT 1 FROM pending_vectors WHERE user_key = :user_key LIMIT 1",
                {"user_key": user_key},
            ):
                queue_job(tx, JobKind.EMBED, user_key, 0, now)

        await self._database.write(work, scope)

    async def discard(self, user_key: int) -> None:
        """See `ImportStore`."""

        def work(tx: Transaction) -> bool:
            if not tx.execute(
                f"SELECT 1 FROM imports WHERE user_key = :user_key{tx.for_update}",
                {"user_key": user_key},
            ):
                return False
            return _remove(tx, user_key)

        while await self._database.write(work):
            pass

    async def discard_abandoned(self) -> int:
        """See `ImportStore`."""
        rows = await self._database.read_rows(
            "SELECT user_key FROM imports WHERE write_time < :before",
            {"before": self._now() - ABANDONED_SECONDS * _SECOND},
        )
        for (user_key,) in rows:
            await self.discard(user_key)
        return len(rows)

    def _now(self) -> int:
        return to_microseconds(self._clock())


def _check_free(tx: Transaction, scope: Scope) -> int:
    """Return the last revision of an erased user of the scope, 0 for none.

    Raises:
        AlreadyExists: USER_EXISTS.
        Aborted: USER_BEING_ERASED.
    """
    if find_user(tx, scope) is not None:
        raise AlreadyExists(Reason.USER_EXISTS, "user", scope.user_id)
    erased = erased_digest(tx, scope)
    if tx.execute(
        "SELECT 1 FROM erasures WHERE erased = :erased AND complete = 0", {"erased": erased}
    ):
        raise being_erased()
    return erased_revision(tx, erased)


def _hold(tx: Transaction, user_key: int, now: int) -> None:
    """Note that an import goes on."""
    if not tx.execute(
        "UPDATE imports SET write_time = :now WHERE user_key = :user_key RETURNING 1",
        {"now": now, "user_key": user_key},
    ):
        raise Aborted(Reason.USER_BEING_ERASED, "the import took too long and was given up")


def _remove(tx: Transaction, user_key: int) -> bool:
    """Remove some rows of a hidden user; True if there may be more."""
    room = BITE
    for table, key in BY_USER_KEY.items():
        gone = tx.execute(
            f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} "
            "WHERE user_key = :user_key LIMIT :room) RETURNING 1",
            {"user_key": user_key, "room": room},
        )
        room -= len(gone)
        if room <= 0:
            return True
    for table in ("vector_feeds", "imports"):
        tx.execute(f"DELETE FROM {table} WHERE user_key = :user_key", {"user_key": user_key})
    tx.execute(
        "UPDATE users SET erased = :nobody WHERE user_key = :user_key",
        {"user_key": user_key, "nobody": secrets.token_bytes(16)},
    )
    return False
