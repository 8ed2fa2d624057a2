"""`recollect migrate`."""

import sys
from pathlib import Path
from typing import Any

import click

from recollect_server.cli.database import database_options
from recollect_server.cli.run import fail, load_settings


@click.command()
@database_options
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if there is work to do.")
def migrate(config_file: Path | None, check: bool, **flags: Any) -> None:
    """Bring the database to this version's schema. Servers may run meanwhile."""
    settings = load_settings(config_file, **flags)
    from recollect_server.stores.sql import migrate as schema

    location = settings.database_location
    try:
        if check:
            needed = schema.needs_migration(location)
            click.echo("a migration is needed" if needed else f"up to date: {schema.HEAD}")
            sys.exit(1 if needed else 0)
        changed = schema.migrate(location)
    except (schema.SchemaError, OSError) as error:
        fail(str(error))
    click.echo(f"{'migrated to' if changed else 'up to date:'} {schema.HEAD}")
