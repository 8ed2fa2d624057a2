"""SQLite: one writer thread that shares commits, and a few readers."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import structlog

from recollect_server.errors import Reason, Unavailable
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Row, Transaction
from recollect_server.stores.sql.writers import Unit, Writers

T = TypeVar("T")

log = structlog.get_logger("recollect.sqlite")

READERS = 2
BUSY_SECONDS = 10.0
"""How long a writer waits for another process that holds the file's write lock."""


class SqliteTransaction:
    """See `Transaction`. A writer has the whole file to itself, so there are no rows to lock."""

    exclusive = True
    for_update = ""
    skip_locked = ""

    def __init__(self, connection: sqlite3.Connection, *, first_run: bool) -> None:
        self._connection = connection
        self.first_run = first_run

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """See `Transaction`."""
        return self._connection.execute(sql, params or {}).fetchall()

    def count(self, sql: str, params: Mapping[str, Any]) -> int:
        """See `Transaction`."""
        return self._connection.execute(sql, params).rowcount

    def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> None:
        """See `Transaction`."""
        self._connection.executemany(sql, params)


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    _enter_wal_mode(connection)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -16384")
    return connection


def _enter_wal_mode(connection: sqlite3.Connection) -> None:
    """Switch a new file over; unlike elsewhere SQLite does not wait for others that do it, too."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _connect_reader(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "NORMAL")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _empty_log(connection: sqlite3.Connection) -> None:
    """Leave nothing in the write-ahead log.

    SQLite refuses at once while another connection brings the log into the file, as writers often
    do after a commit. It waits for those who read an older state, but writers wait meanwhile: a try
    waits for as long as all before it took, so that short reads keep writers up shortly.

    Raises:
        Unavailable: somebody reads for longer than `BUSY_SECONDS`.
    """
    begun = time.monotonic()
    while True:
        tried = time.monotonic() - begun
        connection.execute(f"PRAGMA busy_timeout = {100 + int(tried * 1000)}")
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            break
        if tried > BUSY_SECONDS:
            raise Unavailable(Reason.STORE_UNAVAILABLE, "the database's log is being read", 1.0)
        time.sleep(0.01)
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def _unavailable(error: sqlite3.Error) -> Unavailable:
    log.error("database error", error=type(error).__name__, detail=str(error))
    return Unavailable(Reason.STORE_UNAVAILABLE, "the database does not answer", retry_after=1.0)


class SqliteDatabase:
    """A SQLite file, shared with other processes of this machine.

    Args:
        path: the file; its schema must be current.
        synchronous: `FULL` makes an acknowledged write survive a power cut, `NORMAL` a crash of
            the process only.
    """

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        self._path = path
        self._closed = False
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._loop = asyncio.get_running_loop()
        self._loops_own: sqlite3.Connection | None = None
        self._writers = Writers(lambda: _Writer(path, synchronous), threads=1, name="sqlite-write")
        self._compacting = asyncio.Lock()
        self._compactions_begun = self._compacted = 0

    @property
    def writer(self) -> Writers:
        """See `Database`."""
        return self._writers

    async def write(self, work: Callable[[Transaction], T], scope: Scope | None = None) -> T:
        """See `Database`."""
        return await self._writers.write(work, scope)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        self._check_open()
        return await self._loop.run_in_executor(self._readers, self._read_one, work)

    async def read_rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]:
        """See `Database`. It runs on the event loop's thread: readers wait for nobody in WAL mode,
        and a few rows by their key cost a fifth of handing them to another thread and back.
        """
        self._check_open()
        try:
            if self._loops_own is None:
                self._loops_own = _connect_reader(self._path)
            return self._loops_own.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    async def compact(self, tables: Sequence[str]) -> None:
        """See `Database`. The file is written anew, for which writers wait: those who ask while it
        is done share the next time.
        """
        self._check_open()
        asked = self._compactions_begun
        async with self._compacting:
            if self._compacted > asked:
                return
            self._compactions_begun += 1
            await asyncio.to_thread(self._vacuum)
            self._compacted = self._compactions_begun

    def _vacuum(self) -> None:
        try:
            with closing(_connect(self._path, "FULL")) as connection:
                # First without: a log that cannot be emptied would grow by a copy of the file.
                _empty_log(connection)
                # SQLite's `secure_delete` overwrites what is deleted, but not the copies that stay
                # behind in pages whose cells were moved.
                connection.execute("VACUUM")
                _empty_log(connection)
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    async def close(self) -> None:
        """See `Database`."""
        if self._closed:
            return
        self._closed = True
        await self._writers.close()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()
        if self._loops_own is not None:
            self._loops_own.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(Reason.SHUTTING_DOWN, "the server is shutting down")

    def _read_one(self, work: Callable[[Transaction], T]) -> T:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = _connect_reader(self._path)
                self._connections.append(connection)
            connection.execute("BEGIN")
            try:
                return work(SqliteTransaction(connection, first_run=True))
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _unavailable(error) from None


class _Writer:
    """See `Committer`: one transaction for all units."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._path = path
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None

    def commit(self, units: list[Unit]) -> None:
        try:
            if self._connection is None:
                self._connection = _connect(self._path, self._synchronous)
            _commit(self._connection, units)
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _commit(connection: sqlite3.Connection, units: list[Unit]) -> None:
    """Run the units in one transaction; on an error of the database nothing of them remains."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _run_all(connection, units):
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            transaction = SqliteTransaction(connection, first_run=False)
            for unit in units:
                _run(connection, transaction, unit)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run_all(connection: sqlite3.Connection, units: list[Unit]) -> bool:
    """Run the units without savepoints, which cost a fifth of it; False if one failed."""
    transaction = SqliteTransaction(connection, first_run=True)
    try:
        for unit in units:
            unit.result = unit.work(transaction)
    except sqlite3.OperationalError:
        raise
    except Exception:  # noqa: BLE001 - each unit alone tells what is wrong with it
        return False
    return True


def _run(connection: sqlite3.Connection, transaction: SqliteTransaction, unit: Unit) -> None:
    connection.execute("SAVEPOINT unit")
    try:
        unit.result = unit.work(transaction)
    except Exception as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        unit.result, unit.error = None, error
        connection.execute("ROLLBACK TO unit")
    connection.execute("RELEASE unit")
