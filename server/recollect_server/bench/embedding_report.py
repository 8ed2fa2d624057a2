"""A measurement of embedding as a table."""

from typing import Any

from rich.console import Console
from rich.table import Table

from recollect_server.bench.embedding import EmbeddingRun, results


def print_table(run: EmbeddingRun, console: Console) -> None:
    """Print each figure beside its yardstick."""
    figures: Any = results(run)
    table = Table(title="embedding", title_justify="left")
    table.add_column("measured")
    for name in ("value", "yardstick", "ratio"):
        table.add_column(name, justify="right")
    for name, row in figures.items():
        value, yardstick, ratio, *_ = row.values()
        unit = "/s" if name == "backlog" else " ms"
        table.add_row(name, f"{value:.1f}{unit}", f"{yardstick:.1f}{unit}", f"{ratio:.2f}")
    console.print(table)
    console.print(
        "question: the embedder, onnxruntime alone; backlog: a server, the embedder alone; "
        "calls: while a backlog is drained, otherwise"
    )
