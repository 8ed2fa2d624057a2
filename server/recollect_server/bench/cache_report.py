"""A run of the cache's benchmark as a table and as a picture."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recollect_server.bench.cache import CacheRun, Found, curve, rates, results
from recollect_server.bench.report import picture


def print_table(run: CacheRun, console: Console) -> None:
    """Print the figures, a line for each case and one for all."""
    figures: Any = results(run)
    table = Table(title="answer cache", title_justify="left")
    table.add_column("case")
    for name in ("probes", "hits", "right"):
        table.add_column(name, justify="right")
    for case, counts in figures["cases"].items():
        table.add_row(case or "-", *map(str, counts.values()))
    console.print(table)
    exact, semantic = figures["lookup_ms"]["exact"], figures["lookup_ms"]["semantic"]
    console.print(
        f"precision {figures['precision']:.3f}, hit rate {figures['hit_rate']:.3f}, "
        f"{figures['false_hits']} false hits at an asked-for rate of {run.max_false_hit_rate:g}; "
        f"lookup p50 exact {exact['p50']} ms, semantic {semantic['p50']} ms"
    )
    if run.recipe:
        recipe = figures["recipe"]
        console.print(
            f"the 0.12 recipe: precision {recipe['precision']:.3f}, "
            f"hit rate {recipe['hit_rate']:.3f}"
        )


def plot(run: CacheRun, path: Path, title: str) -> None:
    """Draw precision against hit rate over thresholds beside the recipe, and hits by case.

    Args:
        path: ends in .svg or .png.

    Raises:
        PlotError: matplotlib is not installed.
    """
    with picture(path, title) as (left, right):
        _draw_curves(left, run)
        _draw_cases(right, run.found)


def _draw_curves(axes: Any, run: CacheRun) -> None:
    for found, label, color in (
        (run.loosest, "verifier", "black"),
        (run.recipe, "recipe, distance up to 0.12", "#c44e52"),
    ):
        points = curve(found)
        axes.plot(*zip(*points, strict=True) if points else ((), ()), color=color, label=label)
    for found, color in ((run.found, "black"), (run.recipe, "#c44e52")):
        precision, hit_rate = rates(found)
        axes.plot(hit_rate, precision, "o", color=color)
        axes.annotate(
            f"{precision:.3f} / {hit_rate:.3f}",
            (hit_rate, precision),
            (-6, -12),
            textcoords="offset points",
            ha="right",
        )
    asked = f"asked for: {run.max_false_hit_rate:.3g} false of hits"
    axes.axhline(1 - run.max_false_hit_rate, color="grey", linestyle=":", linewidth=1, label=asked)
    axes.set(xlabel="hit rate", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.legend(
        loc="lower left",
        fontsize=8,
        frameon=False,
        title="at the dots: precision / hit rate",
        title_fontsize=8,
        alignment="left",
    )


def _draw_cases(axes: Any, found: tuple[Found, ...]) -> None:
    cases = sorted({each.probe.case for each in found}, reverse=True)
    for place, case in enumerate(cases):
        of_case = [each for each in found if each.probe.case == case]
        right = sum(each.right for each in of_case) / len(of_case)
        wrong = sum(each.answer is not None and not each.right for each in of_case) / len(of_case)
        axes.barh(place, right, color="#4878a8", label="" if place else "right")
        axes.barh(place, wrong, left=right, color="#c44e52", label="" if place else "wrong")
    axes.set_yticks(range(len(cases)), [case or "-" for case in cases], fontsize=8)
    axes.set(xlabel="share of probes that hit", xlim=(0, 1.02))
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25, axis="x")
