"""A copy of a SQLite database that is in use, as of one moment, and checked."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from recollect_server.stores.sql.migrate import current_revision


class BackupError(Exception):
    """There is no backup; the message says why."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made.

    Attributes:
        revision: of its schema.
        size: in bytes.
    """

    revision: str
    size: int


def back_up(database: Path, target: Path) -> Backup:
    """Copy a database into a new file; others may read and write it meanwhile.

    The copy holds all that was committed before it began. The file appears under its name when it
    is whole, checked and on the disk; only its owner may read it.

    Raises:
        BackupError: there is no database, the file exists, or the copy is not sound.
    """
    if not database.exists():
        raise BackupError(f"there is no database at {database}")
    if target.exists():
        raise BackupError(f"{target} exists: a backup replaces nothing")
    partial = target.with_name(f"{target.name}.partial")
    try:
        # An empty file is taken for a new one.
        os.close(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from None
    try:
        with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        revision = _check(database, partial)
        _sync(partial)
        partial.rename(target)
        _sync(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"{database} cannot be copied to {target}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return Backup(revision, target.stat().st_size)


def _check(database: Path, copy: Path) -> str:
    """Return the copy's revision. Raises `BackupError`."""
    with closing(sqlite3.connect(copy)) as connection:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if answer != "ok" or broken is not None:
        raise BackupError(f"{database} is damaged: {answer if broken is None else 'lost rows'}")
    revision = current_revision(copy)
    if not revision:
        raise BackupError(f"{database} is no database of Recollect")
    return revision


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
