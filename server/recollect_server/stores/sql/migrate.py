"""The schema's version, and how to bring a database to it.

Alembic costs a third of a second to import, so it is only asked when there is something to do.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

HEAD = "0012"
"""The revision this code works with: the last file of `migrations/versions`."""

_MIGRATIONS = Path(__file__).parent / "migrations"

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


class SchemaError(RuntimeError):
    """The database belongs to another version of Recollect, or cannot be reached."""


def is_postgres(location: str | Path) -> bool:
    """Whether a location is a PostgreSQL URL; otherwise it is the path of a SQLite file."""
    return str(location).startswith(POSTGRES_SCHEMES)


def current_revision(location: str | Path) -> str:
    """Return a database's revision, "" for a new one.

    Raises:
        SchemaError: the database cannot be read.
    """
    if is_postgres(location):
        return _postgres_revision(str(location))
    if not Path(location).exists():
        return ""
    try:
        with closing(sqlite3.connect(location)) as connection:
            known = connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
            ).fetchone()
            if known is None:
                return ""
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return row[0] if row else ""
    except sqlite3.Error as error:
        raise SchemaError(f"{location} cannot be read as a SQLite database: {error}") from None


def _postgres_revision(url: str) -> str:
    connect = _postgres_connect()
    import psycopg

    try:
        with closing(connect(url, connect_timeout=10)) as connection:
            known = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
            if known is None or known[0] is None:
                return ""
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return row[0] if row else ""
    except psycopg.Error as error:
        raise SchemaError(f"PostgreSQL does not answer: {str(error).strip()}") from None


def _postgres_connect() -> Callable[..., Any]:
    try:
        import psycopg
    except ModuleNotFoundError:
        raise SchemaError(
            "PostgreSQL needs the extra: install recollect-server[postgres]"
        ) from None
    return psycopg.connect


def migrate(location: str | Path) -> bool:
    """Bring a database to `HEAD`, creating a SQLite file if it is not there.

    Args:
        location: a PostgreSQL URL, or the path of a SQLite file.

    Returns:
        Whether it changed.

    Raises:
        SchemaError: the database was written by a newer version, or cannot be used.
    """
    if not is_postgres(location):
        Path(location).parent.mkdir(0o700, parents=True, exist_ok=True)
    if not needs_migration(location):
        return False
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = _engine(location)
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, HEAD)
    except DBAPIError as error:
        raise SchemaError(f"the migration failed: {str(error.orig).strip()}") from None
    finally:
        engine.dispose()
    return True


def needs_migration(location: str | Path) -> bool:
    """Whether a database is older than this code. Raises as `migrate` does."""
    revision = current_revision(location)
    if revision > HEAD:
        name = "the database" if is_postgres(location) else location
        raise SchemaError(
            f"{name} has schema {revision}, this version knows {HEAD}: use a newer Recollect"
        )
    return revision != HEAD


def _engine(location: str | Path) -> "Engine":
    """Return an engine; the location goes to the driver as it is, whatever characters it has."""
    from sqlalchemy import create_engine

    if is_postgres(location):
        connect = _postgres_connect()
        return create_engine("postgresql+psycopg://", creator=lambda: connect(str(location)))
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(location))
