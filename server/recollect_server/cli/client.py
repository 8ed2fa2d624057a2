"""What the commands that talk to a server share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from recollect import Recollect, errors

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TARGET = "127.0.0.1:50051"


def target_options(command: F) -> F:
    """Add the options that say which server and which user."""
    for option in (
        click.option("--user", default="me", show_default=True, help="Whose memory."),
        click.option(
            "--api-key", envvar="RECOLLECT_API_KEY", help="Needed if the server asks for one."
        ),
        click.option(
            "--target",
            envvar="RECOLLECT_ADDRESS",
            default=DEFAULT_TARGET,
            show_default=True,
            metavar="HOST:PORT",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def connect(target: str, api_key: str | None, user: str | None = None) -> Iterator[Recollect]:
    """Give a client; a failed call ends the command with one line and exit code 1."""
    try:
        with Recollect(target, api_key=api_key, user_id=user) as client:
            yield client
    except errors.Unavailable as error:
        click.echo(
            f"recollect: no server at {target} ({error.message}). Start one: recollect serve",
            err=True,
        )
        sys.exit(1)
    except errors.RecollectError as error:
        click.echo(f"recollect: {error.message}", err=True)
        sys.exit(1)
