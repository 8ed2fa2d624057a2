"""The schema's version, and how to bring a database to it.

Alembic costs a third of a second to import, so it is only asked when there is something to do.
"""

import sqlite3
from pathlib import Path

HEAD = "0001"
"""The revision this code works with: the last file of `migrations/versions`."""

_MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaError(RuntimeError):
    """The database belongs to another version of Recollect; the message says which."""


def current_revision(path: Path) -> str:
    """Return the revision of a SQLite file, "" for a new one."""
    with sqlite3.connect(path) as connection:
        known = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        ).fetchone()
        if known is None:
            return ""
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else ""


def migrate(path: Path) -> bool:
    """Bring a SQLite file to `HEAD`, creating it if it is not there; return whether it changed.

    Raises:
        SchemaError: the file was written by a newer version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    revision = current_revision(path)
    if revision == HEAD:
        return False
    if revision > HEAD:
        raise SchemaError(
            f"{path} has schema {revision}, this version knows {HEAD}: use a newer Recollect"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = f"sqlite:///{path}"
    command.upgrade(config, HEAD)
    return True
