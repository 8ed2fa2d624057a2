"""A run as a table and as a picture."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recollect_server.bench.recall import Answer, RecallRun, results
from recollect_server.bench.stats import mean, percentile, recall_at


class PlotError(RuntimeError):
    """The picture cannot be drawn; the message says what to install."""


def print_table(run: RecallRun, console: Console) -> None:
    """Print the figures, a line for each category and one for all."""
    figures: Any = results(run)
    table = Table(title="recall", title_justify="left")
    table.add_column("category")
    for name in ("questions", "R@5", "R@10", "MRR"):
        table.add_column(name, justify="right")
    categories = figures["by_category"]
    rows = [*(categories.items() if len(categories) > 1 else ()), ("all", figures)]
    for name, row in rows:
        values = (row["recall_at_5"], row["recall_at_10"], row["mrr"])
        shown = ["-" if value is None else f"{value:.3f}" for value in values]
        table.add_row(name or "-", str(row["questions"]), *shown)
    console.print(table)
    query = figures["query_ms"]
    console.print(
        f"query p50 {query['p50']} ms, p95 {query['p95']} ms, p99 {query['p99']} ms; "
        f"{run.items} items in at {figures['ingest_turns_per_s']:.0f} a second, "
        f"indexed {figures['index_wait_s']} s later"
    )


def plot(run: RecallRun, path: Path, title: str) -> None:
    """Draw recall over k, by category, and the distribution of query times.

    Args:
        path: ends in .svg or .png.

    Raises:
        PlotError: matplotlib is not installed.
    """
    with picture(path, title) as (left, right):
        _draw_recall(left, run)
        _draw_times(right, run)


@contextmanager
def picture(
    path: Path, title: str, width_ratios: tuple[int, int] = (3, 2)
) -> Iterator[tuple[Any, Any]]:
    """Give two axes side by side to draw on, and write them to a file.

    Args:
        path: ends in .svg or .png.
        width_ratios: width of the left axes to that of the right ones.

    Raises:
        PlotError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise PlotError("--plot needs matplotlib: pip install 'recollect-server[plot]'") from error
    mpl.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(11, 4.4), width_ratios=width_ratios, layout="constrained"
    )
    yield left, right
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=144)
    pyplot.close(figure)


def _draw_recall(axes: Any, run: RecallRun) -> None:
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in run.answers:
        groups[answer.question.category].append(answer)
    steps = range(1, run.top_k + 1)

    def curve(answers: list[Answer]) -> list[float]:
        return [mean([recall_at(a.found, a.question.relevant, k) for a in answers]) for k in steps]

    if len(groups) > 1:
        for name, answers in sorted(groups.items()):
            label = f"{name or '-'} ({len(answers)})"
            axes.plot(steps, curve(answers), linewidth=1.2, alpha=0.75, label=label)
    whole = curve(list(run.answers))
    axes.plot(steps, whole, color="black", linewidth=2.4, label=f"all ({len(run.answers)})")
    axes.annotate(
        f"{whole[-1]:.3f}", (run.top_k, whole[-1]), (4, 0), textcoords="offset points", va="center"
    )
    axes.set(xlabel="k", ylabel="recall@k", ylim=(0, 1.02), xlim=(1, run.top_k + 0.6))
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def _draw_times(axes: Any, run: RecallRun) -> None:
    times = sorted(answer.seconds * 1000 for answer in run.answers)
    longest = percentile(times, 0.99) * 1.2
    axes.hist([t for t in times if t <= longest], bins=40, color="#4878a8")
    for share, style in ((0.5, "-"), (0.95, "--")):
        value = percentile(times, share)
        label = f"p{round(share * 100)} {value:.1f} ms"
        axes.axvline(value, color="black", linestyle=style, linewidth=1.2, label=label)
    axes.set(xlabel="milliseconds a query, at the client", ylabel="queries")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
