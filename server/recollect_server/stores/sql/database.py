"""What the store functions need of a database, whichever it is.

Store functions are plain functions over a `Transaction`; a driver runs them in a transaction on a
thread of its own, so the same code serves every database.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Row = Any
"""A row: values by position."""


class Transaction(Protocol):
    """A running transaction. Parameters are named, as in `:name`."""

    def execute(self, sql: str, params: Mapping[str, Any] = ...) -> list[Row]:
        """Run a statement and return its rows."""

    def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of parameters."""


class Database(Protocol):
    """Runs functions in transactions.

    Both methods raise `Unavailable` with STORE_UNAVAILABLE when the database does not work, and
    whatever the function raises, after undoing what it did.
    """

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction; it is durable on return."""

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one consistent state; it must not write."""

    async def close(self) -> None:
        """Finish what was accepted and close."""
