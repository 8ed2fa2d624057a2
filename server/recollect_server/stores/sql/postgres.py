"""PostgreSQL: a few writers that share commits, and a few readers.

Statements of a group go out in a pipeline: one that returns no rows is not waited for. When a group
fails, for whatever reason, it is rolled back and its units are run one by one, so a unit's error is
its own, and units that met another process's transaction are run again.

A group locks its users first, all of them in one order, so two groups never wait for each other
over users, and one waits for its turn for as long as it takes: many writers of one user are a
queue. Where two still wait for each other, over jobs for one, a group does not wait for PostgreSQL
to find that out, but gives up soon.
"""

import asyncio
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg import errors as pg_errors

from recollect_server.errors import Reason, Unavailable
from recollect_server.scope import Scope
from recollect_server.stores.sql.appending import AppendCall, append_together
from recollect_server.stores.sql.database import Row, RunAgain, Transaction
from recollect_server.stores.sql.postgres_connection import (
    BROKEN,
    Connection,
    NotConnectedError,
    PostgresTransaction,
    outcome,
    translate,
)
from recollect_server.stores.sql.writers import Unit, Writers

T = TypeVar("T")

log = structlog.get_logger("recollect.postgres")

WRITERS = 2
READERS = 4
MAX_RUNS = 10
"""How often a unit is run that meets other processes' transactions."""
GROUP_LOCK_MS = 200
"""How long a group waits for a row that another transaction has locked, unless it is a user's."""

# What FROM names is done before the limit is set: in one statement, since each costs a round trip.
_LOCK_USERS = (
    f"SELECT set_config('lock_timeout', '{GROUP_LOCK_MS}', true) FROM (SELECT COUNT(*) FROM ("
    "SELECT 1 FROM users WHERE (tenant, user_id) IN "
    "(SELECT * FROM unnest(:tenants::text[], :user_ids::text[])) "
    "ORDER BY tenant, user_id FOR NO KEY UPDATE) locked) counted"
)

_AGAIN = (
    RunAgain,
    pg_errors.SerializationFailure,
    pg_errors.DeadlockDetected,
    # Another process inserted the same key first; the next run sees its row.
    pg_errors.UniqueViolation,
    # See `_Writer._in_transaction`; the next run is on a new connection.
    pg_errors.InvalidSqlStatementName,
)


class PostgresDatabase:
    """A PostgreSQL database, shared with other processes of any machine.

    Args:
        url: a libpq URL; the database's schema must be current.
        synchronous_commit: `on` makes an acknowledged write survive a crash of the database's
            machine, `off` a crash of ours only.
    """

    def __init__(self, url: str, synchronous_commit: str = "on") -> None:
        self._url = url
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="postgres-read")
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for _ in range(READERS):
            self._idle.put(Connection(url, "on"))
        self._writers = Writers(
            lambda: _Writer(Connection(url, synchronous_commit)),
            threads=WRITERS,
            name="postgres-write",
        )
        # Lookups that wait share a round trip, as writes share a commit.
        self._lookups = Writers(
            lambda: _Lookups(Connection(url, "on")), threads=1, name="postgres-lookup"
        )

    @property
    def writer(self) -> Writers:
        """See `Database`."""
        return self._writers

    async def write(self, work: Callable[[Transaction], T], scope: Scope | None = None) -> T:
        """See `Database`."""
        return await self._writers.write(work, scope)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        return await self._in_thread(lambda connection: _read(connection, work))

    async def read_rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]:
        """See `Database`."""
        self._check_open()
        return await self._lookups.write(_Lookup(translate(sql), params), None)

    async def compact(self, tables: Sequence[str]) -> None:
        """See `Database`."""
        self._check_open()
        await asyncio.to_thread(self._vacuum, tables)

    def _vacuum(self, tables: Sequence[str]) -> None:
        held = Connection(self._url, "on")
        try:
            for table in tables:
                # Its name is one of ours, from the schema or made by us. Without the option indexes
                # with few dead entries are left as they are.
                held.get().execute(f"VACUUM (INDEX_CLEANUP ON) {table}")
        except NotConnectedError as error:
            raise outcome(error.cause) from None
        except psycopg.Error as error:
            raise outcome(error) from None
        finally:
            held.close()

    async def close(self) -> None:
        """See `Database`."""
        if self._closed:
            return
        self._closed = True
        await self._writers.close()
        await self._lookups.close()
        await asyncio.to_thread(self._readers.shutdown)
        while not self._idle.empty():
            self._idle.get().close()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(Reason.SHUTTING_DOWN, "the server is shutting down")

    async def _in_thread(self, use: "Callable[[psycopg.Connection[Any]], T]") -> T:
        self._check_open()
        return await self._loop.run_in_executor(self._readers, self._with_reader, use)

    def _with_reader(self, use: "Callable[[psycopg.Connection[Any]], T]") -> T:
        with self._reader() as held:
            try:
                try:
                    return use(held.get())
                except BROKEN:
                    # An idle connection dies unnoticed with a restart of the database.
                    held.close()
                    return use(held.get())
            except NotConnectedError as error:
                raise outcome(error.cause) from None
            except psycopg.Error as error:
                held.close()
                raise outcome(error) from None

    @contextmanager
    def _reader(self) -> Iterator[Connection]:
        held = self._idle.get()
        try:
            yield held
        finally:
            self._idle.put(held)


def _read(connection: "psycopg.Connection[Any]", work: Callable[[Transaction], T]) -> T:
    with connection.pipeline():
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            return work(PostgresTransaction(connection, first_run=True))
        finally:
            if not connection.broken:
                connection.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One statement that reads; run by `_Lookups`, not by a transaction."""

    statement: Any
    params: Mapping[str, Any]

    def __call__(self, tx: Transaction) -> list[Row]:
        raise AssertionError("a lookup runs in a pipeline of its own")


class _Lookups:
    """See `Committer`: statements of one row or a few, in one pipeline."""

    def __init__(self, held: Connection) -> None:
        self._held = held

    def commit(self, units: list[Unit]) -> None:
        lookups: list[Any] = [unit.work for unit in units]
        try:
            try:
                rows = self._look_up(lookups)
            except BROKEN:
                # An idle connection dies unnoticed with a restart of the database.
                self._held.close()
                rows = self._look_up(lookups)
        except NotConnectedError as error:
            raise outcome(error.cause) from None
        except psycopg.Error as error:
            self._held.close()
            raise outcome(error) from None
        for unit, found in zip(units, rows, strict=True):
            unit.result = found

    def close(self) -> None:
        self._held.close()

    def _look_up(self, lookups: list[_Lookup]) -> list[list[Row]]:
        connection = self._held.get()
        with connection.pipeline():
            cursors = [connection.execute(each.statement, each.params) for each in lookups]
            return [cursor.fetchall() for cursor in cursors]


class _Writer:
    """See `Committer`."""

    def __init__(self, held: Connection) -> None:
        self._held = held

    def commit(self, units: list[Unit]) -> None:
        if self._commit_together(units):
            return
        down: Exception | None = None
        for unit in units:
            unit.error = down
            if down is not None:
                continue
            try:
                self._commit_alone(unit)
            except NotConnectedError as error:
                unit.error = down = outcome(error.cause)

    def close(self) -> None:
        self._held.close()

    def _commit_together(self, units: list[Unit]) -> bool:
        """Run the units in one transaction; False if one failed and nothing was written."""
        units = sorted(units, key=_locking_order)
        scopes = {unit.scope for unit in units if unit.scope is not None}
        users = {
            "tenants": [scope.tenant for scope in scopes],
            "user_ids": [scope.user_id for scope in scopes],
        }

        def work(tx: Transaction) -> list[Any]:
            # Not waited for: errors show at the next statement that is.
            tx.execute_many(_LOCK_USERS, [users])
            return _run_group(tx, units)

        try:
            results = self._in_transaction(work, first_run=True)
        except (_CommitLost, NotConnectedError) as error:
            raise outcome(error.cause) from None
        except Exception as error:  # noqa: BLE001 - each unit alone tells what is wrong with it
            log.debug("group failed, units run alone", error=type(error).__name__)
            return False
        for unit, result in zip(units, results, strict=True):
            unit.result = result
        return True

    def _commit_alone(self, unit: Unit) -> None:
        """Run a unit in its own transaction. Raises `NotConnectedError`."""
        for run in range(1, MAX_RUNS + 1):
            try:
                unit.result = self._in_transaction(unit.work, first_run=False)
            except NotConnectedError:
                raise
            except _CommitLost as lost:
                unit.error = outcome(lost.cause)
            except _AGAIN as error:
                if run < MAX_RUNS:
                    time.sleep(0.001 * run)
                    continue
                unit.error = outcome(error)
            except BROKEN as error:
                if run == 1:
                    continue
                unit.error = outcome(error)
            except psycopg.Error as error:
                unit.error = outcome(error)
            except Exception as error:  # noqa: BLE001 - the caller gets it
                unit.error = error
            return

    def _in_transaction(self, work: Callable[[Transaction], T], *, first_run: bool) -> T:
        connection = self._held.get()
        committing = False
        try:
            with connection.pipeline() as pipeline:
                connection.execute("BEGIN")
                result = work(PostgresTransaction(connection, first_run=first_run))
                # Errors of statements that were not waited for must show before the commit.
                pipeline.sync()
                committing = True
                connection.execute("COMMIT")
            return result
        except BaseException as error:
            if committing and isinstance(error, BROKEN):
                self._held.close()
                raise _CommitLost(error) from None
            if isinstance(error, psycopg.Error):
                # What came after a failed statement was not done, yet psycopg takes a statement
                # for prepared that was to be prepared then, for as long as the connection lasts.
                self._held.close()
            else:
                self._roll_back(connection)
            raise

    def _roll_back(self, connection: "psycopg.Connection[Any]") -> None:
        """Leave a clean connection, or none."""
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            self._held.close()


def _run_group(tx: Transaction, units: list[Unit]) -> list[Any]:
    """Run units and return their results: appends to different users together, then the rest."""
    appends: dict[Scope, tuple[int, AppendCall]] = {}
    for position, unit in enumerate(units):
        if isinstance(unit.work, AppendCall):
            appends.setdefault(unit.work.scope, (position, unit.work))
    results: dict[int, Any] = {}
    if appends:
        done = append_together(tx, [call for _, call in appends.values()])
        positions = [position for position, _ in appends.values()]
        results = dict(zip(positions, done, strict=True))
    for position, unit in enumerate(units):
        if position not in results:
            results[position] = unit.work(tx)
    return [results[position] for position in range(len(units))]


def _locking_order(unit: Unit) -> tuple[bool, str, str]:
    """Users in order, and last what locks no user: jobs are locked after their users."""
    if unit.scope is None:
        return (True, "", "")
    return (False, unit.scope.tenant, unit.scope.user_id)


class _CommitLost(Exception):
    """The connection broke while it committed: nobody knows whether the transaction counts.

    It must not be run again, or its writes might be there twice.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
