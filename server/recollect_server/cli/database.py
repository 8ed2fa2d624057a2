"""What the commands share that work on a server's database themselves, also while it runs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from recollect_server.cli.options import options
from recollect_server.cli.run import fail
from recollect_server.config import Settings
from recollect_server.errors import RecollectError

if TYPE_CHECKING:
    from recollect_server.stores.sql.database import Database

T = TypeVar("T")


database_options = options(
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="The server's. Default ./recollect-data.",
    ),
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, exists=True),
        help="The server's TOML file.",
    ),
    click.option(
        "--secrets-dir", type=click.Path(path_type=Path), help="Files named like variables."
    ),
    click.option("--database-url", help="postgresql://... Default: a SQLite file in --data-dir."),
)
"""Which database."""


def on_database(
    settings: Settings, work: Callable[["Database"], Awaitable[T]], *, may_make: bool = False
) -> T:
    """Return what the work gives; a failure ends the command with one line and exit code 1.

    Args:
        may_make: make a SQLite file where there is none, and say so; else that is a failure, for
            whoever looks in the wrong folder is not to be told that nothing is there.
    """
    # Takes a second, which who only names a database need not wait.
    from recollect_server.parts import StartError, open_database

    made = not settings.uses_postgres and not settings.sqlite_path.exists()
    if made and not may_make:
        fail(f"there is no database at {settings.sqlite_path}: name the server's --data-dir")

    async def body() -> T:
        async with AsyncExitStack() as stack:
            return await work(await open_database(stack, settings))

    try:
        result = asyncio.run(body())
    except RecollectError as error:
        fail(error.message)
    except StartError as error:
        fail(str(error))
    if made:
        click.echo(
            f"a new database, for a server of this --data-dir: {settings.sqlite_path}", err=True
        )
    return result
