"""Connections to PostgreSQL, statements in its dialect, and what its errors mean to a caller."""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import StrDumperUnknown
from psycopg.waiting import Ready, Wait

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.sql.database import Row, StatementError

T = TypeVar("T")

log = structlog.get_logger("recollect.postgres")
# What it warns of while it leaves a broken pipeline is in the exception that follows.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

# A server that vanished from the network is noticed in seconds, not in hours; a URL may differ.
_CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "recollect",
}

_PARAMETER = re.compile(r"(?<!:):(\w+)")
BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)
"""What a connection that is gone raises."""


@lru_cache(maxsize=1024)
def translate(sql: str) -> Any:
    """Return a statement with psycopg's parameters for ours."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


@lru_cache(maxsize=1024)
def _returns_rows(sql: str) -> bool:
    return sql.lstrip().startswith(("SELECT", "WITH")) or "RETURNING" in sql


class PostgresTransaction:
    """See `Transaction`."""

    exclusive = False
    for_update = " FOR UPDATE"
    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, connection: "psycopg.Connection[Any]", *, first_run: bool) -> None:
        self._connection = connection
        self.first_run = first_run

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """See `Transaction`."""
        # A cursor of its own: one that is used again may get an earlier statement's late answer.
        cursor = self._connection.execute(translate(sql), params or {})
        # In a pipeline the cursor itself knows only once the answer is there.
        return cursor.fetchall() if _returns_rows(sql) else []

    def count(self, sql: str, params: Mapping[str, Any]) -> int:
        """See `Transaction`."""
        return len(self.execute(f"{sql} RETURNING 1", params))

    def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> None:
        """See `Transaction`. Errors show at the next statement that is waited for."""
        statement = translate(sql)
        for each in params:
            self._connection.execute(statement, each)


class _Text(StrDumperUnknown):
    """PostgreSQL cannot hold NUL in text. Callers' texts have none, a model's may."""

    def dump(self, obj: str) -> bytes:
        return obj.replace("\x00", "\ufffd").encode()


class _Connection(psycopg.Connection[Any]):
    """Sends all of a large statement while it waits for answers.

    In a pipeline, psycopg 3.3.9 waits for the answer to a statement of which the socket's buffer
    did not take all, and does not send the rest: server and client wait for each other for ever.
    """

    def wait(self, gen: PQGen[T], *args: Any, **more: Any) -> T:
        """See psycopg."""
        return super().wait(self._sending(gen), *args, **more)

    def _sending(self, gen: PQGen[T]) -> PQGen[T]:
        try:
            wanted = next(gen)
            while True:
                if wanted == Wait.R and self.pgconn.flush():
                    ready = yield Wait.RW
                    ready &= ~Ready.W
                else:
                    ready = yield wanted
                wanted = gen.send(ready) if ready else wanted
        except StopIteration as ended:
            result: T = ended.value
            return result


def _connect(url: str, synchronous_commit: str) -> "psycopg.Connection[Any]":
    conninfo = make_conninfo("", **(_CONNECTION | conninfo_to_dict(url)))
    connection = _Connection.connect(conninfo, autocommit=True)
    connection.adapters.register_dumper(str, _Text)
    connection.execute(f"SET synchronous_commit = {synchronous_commit}")
    return connection


def outcome(error: Exception) -> Exception:
    """Return what a caller gets for an error of psycopg, and log it without any value of a row."""
    sqlstate = getattr(error, "sqlstate", None)
    kind = type(error).__name__
    if not isinstance(error, BROKEN):
        log.error("statement failed", error=kind, sqlstate=sqlstate)
        return StatementError(f"{kind} {sqlstate}")
    log.error("database error", error=kind, sqlstate=sqlstate, detail=str(error).strip())
    return Unavailable(Reason.STORE_UNAVAILABLE, "the database does not answer", retry_after=1.0)


class NotConnectedError(Exception):
    """The database cannot be reached; nothing was sent."""

    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Connection:
    """A connection that is made when it is needed, and again after it broke."""

    def __init__(self, url: str, synchronous_commit: str) -> None:
        self._url = url
        self._synchronous_commit = synchronous_commit
        self._open: psycopg.Connection[Any] | None = None

    def get(self) -> "psycopg.Connection[Any]":
        """Return the open connection. Raises `NotConnectedError`."""
        if self._open is None or self._open.closed:
            try:
                self._open = _connect(self._url, self._synchronous_commit)
            except psycopg.Error as error:
                raise NotConnectedError(error) from None
        return self._open

    def close(self) -> None:
        """Close it, if it is open."""
        if self._open is not None:
            self._open.close()
            self._open = None
