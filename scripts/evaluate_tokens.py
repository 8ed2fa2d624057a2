"""Measure the estimate of tokens on texts with known counts.

    python scripts/evaluate_tokens.py DATA.jsonl

Each line is a JSON object, `{"kind": "Japanese", "text": "...", "tokens": {"o200k_base": 231}}`,
with the counts of the same tokenizers on every line. It prints docs/tokens.md's table: the median
and the 90th percentile of the estimate's distance from the mean count and from each tokenizer's,
in percent of that count.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from recollect_server.memory.tokens import estimate_text

SHORTEST = 200
"""Tokens a text must have: the rounding of a shorter one would be measured, too."""


def distances(errors: Sequence[float]) -> str:
    """A cell: median and 90th percentile of the absolute errors, in percent."""
    values = sorted(abs(error) for error in errors)
    return f"{statistics.median(values):.0%} / {values[int(len(values) * 0.9)]:.0%}"


def main() -> None:
    """Read the texts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in parser.parse_args().data.read_text("utf-8").splitlines():
        sample = json.loads(line)
        mean = statistics.fmean(sample["tokens"].values())
        if mean < SHORTEST:
            continue
        estimate = estimate_text(sample["text"])
        for name, count in {"mean": mean, **sample["tokens"]}.items():
            errors[sample["kind"]][name].append(estimate / count - 1)
    names = list(next(iter(errors.values()), {}))
    print("| kind | texts |", " | ".join(names), "| bias |")
    print("|" + "---|" * (len(names) + 3))
    for kind, columns in errors.items():
        cells = " | ".join(distances(columns[name]) for name in names)
        bias = statistics.median(columns["mean"])
        print(f"| {kind} | {len(columns['mean'])} | {cells} | {bias:+.0%} |")


if __name__ == "__main__":
    main()
