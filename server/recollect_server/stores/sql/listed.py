"""Rows that a statement is given: the keys of what it looks for."""

from collections.abc import Sequence
from typing import Any


def listed(rows: Sequence[Sequence[Any]]) -> tuple[str, dict[str, Any]]:
    """Return `VALUES (...), (...)` of at least one row, and its parameters.

    Tables are joined to it, as a common table expression: a search for each row by its key. For
    `(a, b) IN (VALUES ...)` with columns of two tables SQLite goes through all of them.
    """
    params = {
        f"r{number}_{position}": value
        for number, row in enumerate(rows)
        for position, value in enumerate(row)
    }
    places = (
        f"({', '.join(f':r{number}_{position}' for position in range(len(row)))})"
        for number, row in enumerate(rows)
    )
    return f"VALUES {', '.join(places)}", params
