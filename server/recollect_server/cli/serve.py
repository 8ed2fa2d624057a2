"""`recollect serve`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from recollect_server import config

if TYPE_CHECKING:
    from recollect_server import app

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where the client looks by itself; kept here because importing the client takes time."""


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Address to serve. Default 127.0.0.1:50051.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Default ./recollect-data.")
@click.option("--config", "config_file", type=click.Path(path_type=Path, exists=True))
@click.option("--state-url", help="Valkey or Redis for windows. Default: an embedded Valkey.")
@click.option("--cache-url", help="Valkey or Redis for answers. Default: as --state-url.")
@click.option(
    "--durability", type=click.Choice([d.value for d in config.Durability]), help="Default full."
)
@click.option(
    "--auth", type=click.Choice([a.value for a in config.Authentication]), help="Default none."
)
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="PEM chain.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="PEM key.")
@click.option("--insecure", is_flag=True, default=None, help="Trust the network.")
@click.option("--allow-global-cache", is_flag=True, default=None, help="Allow scope GLOBAL.")
@click.option("--chat-model", help="Model used when a request names none.")
@click.option("--anthropic-base-url", help="Another address of the Anthropic API.")
@click.option("--anthropic-api-key-file", type=click.Path(path_type=Path, exists=True))
@click.option("--max-message-bytes", type=int, help="Default 1048576.")
@click.option("--max-request-bytes", type=int, help="Default 4194304.")
@click.option("--grace-seconds", type=float, help="For running calls after SIGTERM. Default 30.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["console", "json"]))
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Write the address into this file once it is served.",
)
def serve(config_file: Path | None, ready_file: Path | None, **flags: Any) -> None:
    """Start the server. Every flag is also RECOLLECT_<NAME> and a key of the TOML file."""
    try:
        settings = config.load(config_file, **flags)
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            click.echo(f"recollect: {where + ': ' if where else ''}{message}", err=True)
        sys.exit(2)
    # gRPC's core logs to standard error in a format of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import uvloop

    from recollect_server import app, logs

    logs.configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(app.serve(settings, lambda started: _ready(started, ready_file)))
        except app.StartError as error:
            click.echo(f"recollect: {error}", err=True)
            sys.exit(1)


def _ready(started: "app.Started", ready_file: Path | None) -> None:
    if ready_file is not None:
        temporary = ready_file.with_suffix(".tmp")
        temporary.write_text(started.address)
        temporary.replace(ready_file)
    click.echo(started.notice, err=True)
    click.echo(_invitation(started.address, _program()), err=True)


def _invitation(address: str, program: str) -> str:
    target = "" if address == DEFAULT_TARGET else f" --target {address}"
    return (
        f"Recollect serves on {address}. Try:  "
        f"{program} remember{target} 'I live in Lisbon'  |  "
        f"{program} recall{target} 'where do I live?'  |  "
        f"{program} chat{target}"
    )


def _program() -> str:
    """Return how this command can be typed here: by its path if it lies below this folder."""
    called = Path(sys.argv[0]).absolute()
    if called.name == "recollect" and called.is_relative_to(Path.cwd()):
        return str(called.relative_to(Path.cwd()))
    return "recollect"
