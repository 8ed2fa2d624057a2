"""`recollect bench`."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, TaskID

from recollect import AsyncRecollect, errors
from recollect_server.bench import data, embedded, recall, report


@click.group()
def bench() -> None:
    """Measure a server through its public API."""


@bench.command(name="recall")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--target", metavar="HOST:PORT", help="Default: a server of its own in a temporary folder."
)
@click.option("--api-key", envvar="RECOLLECT_API_KEY")
@click.option("--top-k", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw them: .svg or .png.")
def recall_(
    file: Path,
    target: str | None,
    api_key: str | None,
    top_k: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Put the turns and facts of FILE into a server and ask its questions.

    FILE has one JSON object a line, of kind turn, fact or question; docs/recall.md describes it.
    """
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise click.BadParameter("must end in .svg or .png", param_hint="--plot")
    try:
        read = data.read(file)
    except (data.DataError, UnicodeDecodeError) as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(2)
    try:
        server = nullcontext(target) if target else embedded.embedded_server()
        with server as address, _progress() as progress:
            done = asyncio.run(_run(address, api_key, read, top_k, progress))
        report.print_table(done, Console())
        if json_file is not None:
            json_file.write_text(json.dumps(recall.results(done), indent=2) + "\n")
        if plot is not None:
            report.plot(done, plot, f"{file.stem}: {len(done.answers)} questions")
    except errors.RecollectError as error:
        click.echo(f"recollect: {error.message}", err=True)
        sys.exit(1)
    except (embedded.StartError, report.PlotError, OSError) as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(1)


async def _run(
    address: str,
    api_key: str | None,
    read: data.RecallData,
    top_k: int,
    progress: recall.Progress,
) -> recall.RecallRun:
    async with AsyncRecollect(address, api_key=api_key) as client:
        return await recall.run(client, read, top_k=top_k, progress=progress)


@contextmanager
def _progress() -> Iterator[recall.Progress]:
    """Show progress on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage)
            bars.update(stages[stage], completed=done, total=total)

        yield show
