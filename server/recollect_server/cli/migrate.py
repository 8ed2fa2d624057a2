"""`recollect migrate`."""

import sys
from pathlib import Path

import click

from recollect_server.cli.run import load_settings


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Default ./recollect-data.")
@click.option("--config", "config_file", type=click.Path(path_type=Path, exists=True))
@click.option("--database-url", help="postgresql://... Default: a SQLite file in --data-dir.")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if there is work to do.")
def migrate(
    config_file: Path | None, data_dir: Path | None, database_url: str | None, check: bool
) -> None:
    """Bring the database to this version's schema. Servers may run meanwhile."""
    settings = load_settings(config_file, data_dir=data_dir, database_url=database_url)
    from recollect_server.stores.sql import migrate as schema

    location = settings.database_location
    try:
        if check:
            needed = schema.needs_migration(location)
            click.echo("a migration is needed" if needed else f"up to date: {schema.HEAD}")
            sys.exit(1 if needed else 0)
        changed = schema.migrate(location)
    except (schema.SchemaError, OSError) as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(1)
    click.echo(f"{'migrated to' if changed else 'up to date:'} {schema.HEAD}")
