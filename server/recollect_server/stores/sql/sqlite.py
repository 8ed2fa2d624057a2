"""SQLite: one writer thread that shares commits, and a few readers.

Writers wait for the disk once a commit, not once each: the thread takes everything that is queued,
up to `MAX_GROUP` units, runs each in its own savepoint, commits once and only then acknowledges.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.sql.database import Row, Transaction

T = TypeVar("T")

log = structlog.get_logger("recollect.sqlite")

MAX_GROUP = 256
READERS = 2
BUSY_SECONDS = 10.0
"""How long a writer waits for another process that holds the file's write lock."""


class SqliteTransaction:
    """See `Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """See `Transaction`."""
        return self._connection.execute(sql, params or {}).fetchall()

    def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> None:
        """See `Transaction`."""
        self._connection.executemany(sql, params)


@dataclass(slots=True)
class _Unit:
    """A queued write: what to run, and whom to tell."""

    work: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -16384")
    return connection


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
        self._synchronous = synchronous
        self._queue: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._closed = False
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._loop = asyncio.get_running_loop()
        self._writer = threading.Thread(target=self._write_all, name="sqlite-write", daemon=True)
        self._writer.start()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        if self._closed:
            raise Unavailable(Reason.SHUTTING_DOWN, "the server is shutting down")
        unit = _Unit(work, self._loop.create_future())
        self._queue.put(unit)
        result: T = await unit.future
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See `Database`."""
        if self._closed:
            raise Unavailable(Reason.SHUTTING_DOWN, "the server is shutting down")
        return await self._loop.run_in_executor(self._readers, self._read_one, work)

    async def close(self) -> None:
        """See `Database`."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()

    def _read_one(self, work: Callable[[Transaction], T]) -> T:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = _connect(self._path, self._synchronous)
                connection.execute("PRAGMA query_only = ON")
                self._connections.append(connection)
            connection.execute("BEGIN")
            try:
                return work(SqliteTransaction(connection))
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    def _write_all(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            units, ended = self._take()
            if units:
                try:
                    if connection is None:
                        connection = _connect(self._path, self._synchronous)
                    _commit(connection, units)
                except sqlite3.Error as error:
                    unavailable = _unavailable(error)
                    for unit in units:
                        unit.result, unit.error = None, unavailable
                self._loop.call_soon_threadsafe(_tell, units)
            if ended:
                if connection is not None:
                    connection.close()
                return

    def _take(self) -> tuple[list[_Unit], bool]:
        """Wait for a unit, then take what else is queued; True when there will be no more."""
        first = self._queue.get()
        if first is None:
            return [], True
        units = [first]
        while len(units) < MAX_GROUP:
            try:
                unit = self._queue.get_nowait()
            except queue.Empty:
                break
            if unit is None:
                return units, True
            units.append(unit)
        return units, False


def _commit(connection: sqlite3.Connection, units: list[_Unit]) -> None:
    """Run the units in one transaction; on an error of the database nothing of them remains."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        transaction = SqliteTransaction(connection)
        for unit in units:
            _run(connection, transaction, unit)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run(connection: sqlite3.Connection, transaction: SqliteTransaction, unit: _Unit) -> None:
    connection.execute("SAVEPOINT unit")
    try:
        unit.result = unit.work(transaction)
    except Exception as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        unit.error = error
        connection.execute("ROLLBACK TO unit")
    connection.execute("RELEASE unit")


def _tell(units: list[_Unit]) -> None:
    for unit in units:
        if unit.future.done():
            continue
        if unit.error is not None:
            unit.future.set_exception(unit.error)
        else:
            unit.future.set_result(unit.result)
