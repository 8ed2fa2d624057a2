"""`recollect backup`."""

import sys
from pathlib import Path

import click

from recollect_server.cli.run import load_settings


@click.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data-dir", type=click.Path(path_type=Path), help="Default ./recollect-data.")
@click.option("--config", "config_file", type=click.Path(path_type=Path, exists=True))
@click.option("--database-url", help="sqlite:///PATH. Default: a SQLite file in --data-dir.")
def backup(
    target: Path, config_file: Path | None, data_dir: Path | None, database_url: str | None
) -> None:
    """Copy the SQLite database into a new file, while servers use it, and check the copy.

    PostgreSQL has tools of its own: see docs/backup.md.
    """
    settings = load_settings(config_file, data_dir=data_dir, database_url=database_url)
    if settings.uses_postgres:
        click.echo("recollect: back PostgreSQL up by pg_dump or pg_basebackup", err=True)
        sys.exit(2)
    from recollect_server.stores.sql.backup import BackupError, back_up

    try:
        made = back_up(settings.sqlite_path, target.absolute())
    except BackupError as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(1)
    click.echo(f"{target}: {made.size} bytes, schema {made.revision}, checked")
