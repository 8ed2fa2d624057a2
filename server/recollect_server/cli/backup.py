"""`recollect backup`."""

import sys
from pathlib import Path
from typing import Any

import click

from recollect_server.cli.database import database_options
from recollect_server.cli.run import fail, load_settings


@click.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@database_options
def backup(target: Path, config_file: Path | None, **flags: Any) -> None:
    """Copy the SQLite database into a new file, while servers use it, and check the copy.

    PostgreSQL has tools of its own: see docs/backup.md.
    """
    settings = load_settings(config_file, **flags)
    if settings.uses_postgres:
        click.echo("recollect: back PostgreSQL up by pg_dump or pg_basebackup", err=True)
        sys.exit(2)
    from recollect_server.stores.sql.backup import BackupError, back_up

    try:
        made = back_up(settings.sqlite_path, target.absolute())
    except BackupError as error:
        fail(str(error))
    click.echo(f"{target}: {made.size} bytes, schema {made.revision}, checked")
