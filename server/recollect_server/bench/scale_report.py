"""A scale run as a table and as a picture."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recollect_server.bench.report import picture
from recollect_server.bench.scale import METHODS, ScaleRun, results


def print_table(run: ScaleRun, console: Console) -> None:
    """Print the figures, a line for each method."""
    figures: Any = results(run)
    title = f"scale, {run.wanted.messages:,} messages of {run.wanted.users:,} users"
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for name in ("empty p50 ms", "full p50 ms", "full / empty"):
        table.add_column(name, justify="right")
    for name in METHODS:
        row = figures[name]
        times = (f"{row['empty_p50_ms']:.2f}", f"{row['full_p50_ms']:.2f}")
        table.add_row(name, *times, f"{row['ratio']:.3f}")
    console.print(table)
    shown = ["?" if mb is None else f"{mb:.0f} MB" for mb in run.rss_mb]
    console.print(
        f"resident memory of the server: empty {shown[0]}, full {shown[1]}; "
        f"{run.bytes_per_message:.0f} bytes a message on disk"
    )


def plot(run: ScaleRun, path: Path) -> None:
    """Draw each method's median on both stores, and the memory.

    Args:
        path: ends in .svg or .png.

    Raises:
        PlotError: matplotlib is not installed.
    """
    figures: Any = results(run)
    title = f"{run.wanted.messages:,} messages of {run.wanted.users:,} users"
    with picture(path, title) as (left, right):
        for offset, store in ((-0.2, "empty"), (0.2, "full")):
            places = [place + offset for place in range(len(METHODS))]
            values = [figures[name][f"{store}_p50_ms"] for name in METHODS]
            bars = left.bar(places, values, width=0.38, label=f"{store} store")
            left.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=8)
        left.set_xticks(range(len(METHODS)), METHODS)
        left.set(ylabel="milliseconds a call, median")
        left.legend(fontsize=8, frameon=False)
        known = {n: mb for n, mb in figures["rss_mb"].items() if mb is not None}
        bars = right.bar(list(known), list(known.values()), color="#4878a8")
        right.bar_label(bars, [f"{mb:.0f}" for mb in known.values()], fontsize=8)
        right.set(ylabel="MB of resident memory of the server")
        for axes in (left, right):
            axes.grid(alpha=0.25, axis="y")
