"""A load run as a table and as a picture."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recollect_server.bench.load import STREAM, YARDSTICK, LoadRun, results
from recollect_server.bench.report import picture


def print_table(run: LoadRun, console: Console) -> None:
    """Print the figures, a line for each method."""
    figures: Any = results(run)
    table = Table(title=f"load, {run.callers} at a time", title_justify="left")
    table.add_column("method")
    for name in ("a second", "p50 ms", "p99 ms", "echo a second", "of echo"):
        table.add_column(name, justify="right")
    for name, row in figures["rpcs"].items():
        if name == STREAM:
            rates = (row["deltas_per_s"], row["echo_deltas_per_s"], row["ratio_to_echo_stream"])
            times = ("-", "-")
            name = f"{STREAM}, deltas"
        else:
            rates = (row["rps"], row["echo_rps"], row["ratio_to_echo"])
            times = (f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}")
        table.add_row(name, f"{rates[0]:.0f}", *times, f"{rates[1]:.0f}", f"{rates[2]:.3f}")
    console.print(table)
    echo = figures["echo"]
    console.print(
        f"echo of {YARDSTICK}'s messages: {echo['rps']:.0f} a second, p50 {echo['p50_ms']:.2f} ms, "
        f"p99 {echo['p99_ms']:.2f} ms; {figures['embed_per_s']:.0f} texts embedded a second; "
        f"{run.deltas_per_reply} deltas a reply"
    )
    for name, row in figures["rpcs"].items():
        if row.get("missed"):
            console.print(
                f"{name}: {row['missed']} calls missed, because a part of the server was too slow; "
                "the rate is that of the others"
            )
    for name in run.not_served:
        console.print(f"{name}: not served by this server, or never a hit: left out")


def plot(run: LoadRun, path: Path) -> None:
    """Draw the rates beside their echoes', and the times of calls.

    Args:
        path: ends in .svg or .png.

    Raises:
        PlotError: matplotlib is not installed.
    """
    figures: Any = results(run)
    methods = figures["rpcs"]
    unary = [name for name in methods if name != STREAM]
    with picture(path, f"load, {run.callers} calls at a time") as (left, right):
        ratios = [m.get("ratio_to_echo", m.get("ratio_to_echo_stream")) for m in methods.values()]
        bars = left.barh(list(methods), ratios, color="#4878a8")
        left.bar_label(bars, [f"{ratio:.3f}" for ratio in ratios], padding=3, fontsize=8)
        left.set(xlabel="rate / rate of a bare echo of the same messages", xlim=(0, 1.1))
        for quantile, marker in (("p50_ms", "o"), ("p99_ms", "|")):
            values = [methods[name][quantile] for name in unary]
            label = quantile.removesuffix("_ms")
            right.plot(values, range(len(unary)), marker, markersize=9, label=label)
        right.set_yticks(range(len(unary)), unary)
        right.set(xlabel="milliseconds a call, at the client", xscale="log")
        right.legend(fontsize=8, frameon=False)
        for axes in (left, right):
            axes.invert_yaxis()
            axes.grid(alpha=0.25, axis="x")
