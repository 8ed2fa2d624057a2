"""What the commands share that run until they are told to end."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from recollect_server import config


def load_settings(config_file: Path | None, **flags: Any) -> config.Settings:
    """Return the settings, or say what is wrong with them and exit with 2."""
    try:
        return config.load(config_file, **flags)
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            click.echo(f"recollect: {where + ': ' if where else ''}{message}", err=True)
        sys.exit(2)


def run_until_ended(
    settings: config.Settings, start: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run to the end, or say why it did not start and exit with 1."""
    import uvloop

    from recollect_server import logs
    from recollect_server.parts import StartError

    logs.configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(start())
        except StartError as error:
            click.echo(f"recollect: {error}", err=True)
            sys.exit(1)
