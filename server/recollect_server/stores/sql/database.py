"""What the store functions need of a database, whichever it is.

Store functions are plain functions over a `Transaction`; a driver runs them in a transaction on a
thread of its own, so the same code serves every database. They must bear being run again: a driver
repeats a function whose transaction met another one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from recollect_server.scope import Scope
from recollect_server.timing import Histogram

T = TypeVar("T")

Row = Any
"""A row: values by position."""


class StatementError(Exception):
    """The database refuses a statement: a defect of ours. It holds no value of the statement."""


class RunAgain(Exception):
    """Another transaction was first: what the function went by does not hold, run it again."""


class Transaction(Protocol):
    """A running transaction. Parameters are named, as in `:name`.

    Attributes:
        first_run: nothing of the function has run before. It may then go by what is likely, and
            raise `RunAgain` where it turns out otherwise.
        exclusive: nobody else writes before it ends, so what it has read still holds.
        for_update: what a SELECT ends in to lock its rows until the transaction ends.
        skip_locked: the same, leaving out rows that others have locked.
    """

    first_run: bool
    exclusive: bool
    for_update: str
    skip_locked: str

    def execute(self, sql: str, params: Mapping[str, Any] = ...) -> list[Row]:
        """Run a statement and return its rows."""

    def count(self, sql: str, params: Mapping[str, Any]) -> int:
        """Run a statement that writes and return how many rows it wrote.

        SQLite does not collect them first, as it does for `RETURNING`: that is half a statement.
        """

    def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of parameters."""


class WriterState(Protocol):
    """How a database's writers fare; see `writers.Writers`."""

    group_sizes: Histogram
    waits: Histogram

    @property
    def waiting(self) -> int:
        """Writes that no thread has taken yet."""


class Database(Protocol):
    """Runs functions in transactions.

    Every method raises `Unavailable` with STORE_UNAVAILABLE when the database does not work, and
    whatever the function raises, after undoing what it did.
    """

    @property
    def writer(self) -> WriterState:
        """How its writers fare."""

    async def write(self, work: Callable[[Transaction], T], scope: Scope | None = None) -> T:
        """Run `work` in a transaction; it is durable on return.

        Args:
            scope: the user whose row `work` locks. Works that share a transaction lock users in
                one order, so that two transactions do not wait for each other.
        """

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one consistent state; it must not write."""

    async def read_rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]:
        """Run one statement that reads a few rows by their key."""

    async def compact(self, tables: Sequence[str]) -> None:
        """Leave nothing in the database's own files of what was deleted from tables.

        PostgreSQL keeps what it deleted in its log and in backups, for as long as it is told to.

        Raises:
            Unavailable: others are in the way; try again.
        """

    async def close(self) -> None:
        """Finish what was accepted and close."""
