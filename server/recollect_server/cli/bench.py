"""`recollect bench`."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import grpc
from rich.console import Console
from rich.progress import Progress, TaskID

from recollect import errors
from recollect_server.bench import (
    cache,
    cache_data,
    cache_report,
    connection,
    data,
    embedded,
    recall,
    report,
)
from recollect_server.cli.client import Server, server_options
from recollect_server.cli.options import Command, options
from recollect_server.cli.run import prepare_libraries

Show = Callable[[str, int, int], None]

SQLITE = "sqlite:///"
CACHE_SETTINGS = {"RECOLLECT_ALLOW_GLOBAL_CACHE": "true"}


@click.group()
def bench() -> None:
    """Measure a server through its public API."""


def _picture(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in (".svg", ".png"):
        raise click.BadParameter("must end in .svg or .png")
    return path


_path = click.Path(path_type=Path)
_output_options = options(
    click.option("--json", "json_file", type=_path, help="Write the figures."),
    click.option("--plot", type=_path, callback=_picture, help="Draw them: .svg or .png."),
)


def _server_options(command: Command) -> Command:
    # Not by RECOLLECT_ADDRESS: no measurement goes to a server that was not named for it.
    own = "Default: a server of its own in a temporary folder."
    option = click.option("--target", default="", metavar="HOST:PORT", help=own)
    return server_options(command, target=option)


@bench.command(name="recall")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_server_options
@click.option("--top-k", type=click.IntRange(1, 100), default=10, show_default=True)
@_output_options
def recall_(
    file: Path,
    server: Server,
    top_k: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Put the turns and facts of FILE into a server and ask its questions.

    FILE has one JSON object a line, of kind turn, fact or question; docs/recall.md describes it.
    """
    try:
        read = data.read(file)
    except (data.DataError, UnicodeDecodeError) as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(2)
    with _one_line_errors():
        with _running(server) as measured, _progress() as progress:
            done = asyncio.run(_run(measured, read, top_k, progress))
        report.print_table(done, Console())
        _write(json_file, recall.results(done))
        if plot is not None:
            report.plot(done, plot, f"{file.stem}: {len(done.answers)} questions")


async def _run(
    server: Server, read: data.RecallData, top_k: int, progress: Show
) -> recall.RecallRun:
    async with server.async_client() as client:
        return await recall.run(client, read, top_k=top_k, progress=progress)


@bench.command(name="cache")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_server_options
@click.option(
    "--scope",
    type=click.Choice(sorted(cache.SCOPES)),
    default="user",
    show_default=True,
    help="global needs a tenant that allows it; a server of its own does.",
)
@click.option(
    "--max-false-hit-rate",
    type=click.FloatRange(0, 0.5),
    default=0.01,
    show_default=True,
    help="False hits among hits that are asked for.",
)
@_output_options
def cache_(
    file: Path,
    server: Server,
    scope: str,
    max_false_hit_rate: float,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Store the entries of FILE and look its probes up.

    FILE has one JSON object a line, of kind entry or probe; docs/verifier.md describes it.
    """
    try:
        read = cache_data.read(file)
    except (data.DataError, UnicodeDecodeError) as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(2)

    async def measure(server: Server, progress: Show) -> cache.CacheRun:
        async with server.async_client() as client:
            return await cache.run(
                client,
                read,
                scope=scope,
                max_false_hit_rate=max_false_hit_rate,
                curve=plot is not None,
                progress=progress,
            )

    with _one_line_errors():
        with _running(server, CACHE_SETTINGS) as measured, _progress() as progress:
            done = asyncio.run(measure(measured, progress))
        cache_report.print_table(done, Console())
        _write(json_file, cache.results(done))
        if plot is not None:
            cache_report.plot(done, plot, f"{file.stem}: {len(done.found)} lookups")


@bench.command(name="load")
@_server_options
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Seconds for each method, half of them for its echo.",
)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=16, show_default=True)
@_output_options
def load_(
    server: Server,
    duration: float,
    concurrency: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Call the hot methods, in turns with a bare gRPC server that echoes the same messages.

    With --target, users named bench-... are left in that server, and if a model's API answers its
    chats, that is paid for. The echo is always here and in plain text.
    """
    prepare_libraries()
    import uvloop

    from recollect_server.bench import load, load_report

    with _one_line_errors():
        with (
            _running(server) as measured,
            embedded.echo_server() as echo,
            _progress() as progress,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            done = runner.run(
                load.run(
                    measured.settings(),
                    echo.address,
                    duration=duration,
                    callers=concurrency,
                    progress=progress,
                )
            )
        load_report.print_table(done, Console())
        _write(json_file, load.results(done))
        if plot is not None:
            load_report.plot(done, plot)


def _sqlite(ctx: click.Context, parameter: click.Parameter, url: str | None) -> Path | None:
    if url is None:
        return None
    if not url.startswith(SQLITE) or url == SQLITE:
        raise click.BadParameter(f"must be {SQLITE}PATH in this version")
    path = Path(url.removeprefix(SQLITE))
    if path.exists():
        raise click.BadParameter(f"{path} exists: the benchmark fills a file of its own")
    return path


@bench.command(name="scale")
@click.option(
    "--messages", type=click.IntRange(1, 100_000_000), default=1_000_000, show_default=True
)
@click.option("--users", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option(
    "--database-url",
    "database",
    metavar="sqlite:///PATH",
    callback=_sqlite,
    help="File for the full store, which is made and kept. Default: a temporary one.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Seconds for each method, half of them for each store.",
)
@_output_options
def scale_(
    messages: int,
    users: int,
    database: Path | None,
    duration: float,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Compare a server with many messages to one with hardly any."""
    prepare_libraries()
    from recollect_server.bench import fill, scale, scale_report

    if messages < users * fill.SESSIONS_A_USER:
        raise click.UsageError(f"--messages must be at least {fill.SESSIONS_A_USER} a user")
    with _one_line_errors():
        with tempfile.TemporaryDirectory(prefix="recollect-bench-") as folder, _progress() as show:
            wanted = fill.Fill(messages, users)
            done = scale.run(
                Path(folder), wanted, database=database, duration=duration, progress=show
            )
        scale_report.print_table(done, Console())
        _write(json_file, scale.results(done))
        if plot is not None:
            scale_report.plot(done, plot)


@bench.command(name="embedding")
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="Seconds of each slice of calls.",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option(
    "--texts",
    "backlog",
    type=click.IntRange(100, 1_000_000),
    default=2000,
    show_default=True,
    help="That wait when a measurement begins.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures.")
def embedding_(duration: float, rounds: int, backlog: int, json_file: Path | None) -> None:
    """Measure the embedding of questions and of a backlog, and calls while one is drained."""
    prepare_libraries()
    import uvloop

    from recollect_server.bench import embedding, embedding_report

    with _one_line_errors():
        with (
            tempfile.TemporaryDirectory(prefix="recollect-bench-") as folder,
            _progress() as progress,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            done = runner.run(
                embedding.run(
                    Path(folder),
                    backlog=backlog,
                    seconds=duration,
                    rounds=rounds,
                    progress=progress,
                )
            )
        embedding_report.print_table(done, Console())
        _write(json_file, embedding.results(done))


@contextmanager
def _running(server: Server, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Give the server that was named, else one of its own with these settings."""
    if server.target:
        yield server
    else:
        with embedded.embedded_server(environment) as address:
            yield Server(address)


def _write(json_file: Path | None, figures: dict[str, object]) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """End the command with one line and exit code 1 if the measurement fails."""
    try:
        yield
    except grpc.aio.AioRpcError as failed:
        click.echo(f"recollect: {failed.code().name}: {failed.details()}", err=True)
        sys.exit(1)
    except errors.RecollectError as refused:
        click.echo(f"recollect: {refused.message}", err=True)
        sys.exit(1)
    except (connection.LoadError, embedded.StartError, report.PlotError, OSError) as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(1)


@contextmanager
def _progress() -> Iterator[Show]:
    """Show progress on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage)
            bars.update(stages[stage], completed=done, total=total)

        yield show
