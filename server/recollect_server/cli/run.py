"""What the commands share that run until they are told to end."""

import asyncio
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog
from pydantic import ValidationError

from recollect_server import config
from recollect_server.cli import allocator

log = structlog.get_logger("recollect.cli")


def fail(message: str) -> NoReturn:
    """End the command with one line and exit code 1."""
    click.echo(f"recollect: {message}", err=True)
    sys.exit(1)


def load_settings(config_file: Path | None, **flags: Any) -> config.Settings:
    """Return the settings, or say what is wrong with them and exit with 2."""
    try:
        return config.load(config_file, **flags)
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                message = f"there is no such setting in version {version('recollect-server')}"
            click.echo(f"recollect: {where + ': ' if where else ''}{message}", err=True)
    except (ValueError, OSError) as error:
        click.echo(f"recollect: {config_file}: {error}", err=True)
    sys.exit(2)


def prepare_libraries() -> None:
    """Set what libraries read: gRPC's core with its first channel, NumPy when it is imported."""
    # That core logs to standard error in a format of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Threads among which NumPy shares a product wait for each other on a busy machine: 10,000
    # vectors took 8 ms instead of 1.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def run_until_ended(
    settings: config.Settings, start: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run to the end, or say why it did not start and exit with 1."""
    import uvloop

    from recollect_server import logs
    from recollect_server.parts import StartError

    logs.configure(settings.log_level, settings.log_format)
    for name in config.unknown_variables(os.environ):
        log.warning("no setting has the name of this variable", variable=name)
    for name in config.unknown_secrets(settings.secrets_dir):
        log.warning("no setting has the name of this file of secrets", file=name)
    _allow_many_files()
    allocator.keep_little()
    allocator.return_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(start())
        except StartError as error:
            fail(str(error))


def _allow_many_files() -> None:
    """Raise the limit of open files, and so of connections, to what this process may have.

    Many systems start programs with 1024, for the sake of some that use select(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS may state no limit and then take none.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
