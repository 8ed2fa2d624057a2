"""Train the verifier of the answer cache, and measure it on sources that it did not learn.

    python scripts/train_verifier.py context_cache_*.jsonl [--write] [--measure]

Files are those of `recollect bench cache`; each is one source. Beside them it learns from edits of
them and from `verifier_questions.txt`; `verifier_forms.txt` is only for measuring. Without --write
the model file is left as it is. For another embedder, change `embedder` in `verifier_rows.py` and
train again. Needs the dependency group "model". Vectors are kept in the temporary folder for the
next run.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from scipy.stats import beta
from verifier_data import OTHER_QUESTION
from verifier_rows import Array, Learning, Rows, read

from recollect_server.cache.verifier.features import FEATURES, NAMES
from recollect_server.cache.verifier.model import MODEL_FILE
from recollect_server.cache.verifier.rules import Kind

SEED = 7
DEPTH = 3
ROUNDS = 150
EDIT_WEIGHT = {"history": 0.02, "alone": 0.2}
"""Of a source's edits; the source itself and the made questions weigh 1."""
EDITS_WITH_HISTORY = {
    f"edit_{name}" for name in ("number", "negation", "opposite", "swapped", "none")
}
"""The others may name what a history says already."""
INSTEAD_SHARE = 0.25
"""Of probes that ask something else after the same history, when rates of false hits are found."""
RATES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
REPORTED = (0.005, 0.01, 0.02, 0.05)
PARAMETERS = {
    "objective": "binary",
    "num_leaves": 2**DEPTH,
    "max_depth": DEPTH,
    "learning_rate": 0.08,
    "min_data_in_leaf": 30,
    "lambda_l2": 5,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "monotone_constraints": [feature.direction for feature in FEATURES],
    "monotone_constraints_method": "basic",
    "seed": SEED,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}

Models = Mapping[str, lightgbm.Booster]


# --- learning --------------------------------------------------------------------------------


def _head(rows: Rows, head: str) -> Rows:
    if head == "history":
        return rows.where(rows.kind == Kind.HISTORY.value)
    return rows.where((rows.kind == Kind.ALONE.value) | (rows.kind == Kind.COUNTED.value))


def train(sources: Sequence[Learning]) -> Models:
    """Fit one ensemble for conversations and one for questions that stand alone."""
    return {head: _fit(list(_weighted(sources, head))) for head in EDIT_WEIGHT}


def _weighted(sources: Sequence[Learning], head: str) -> Iterator[tuple[Rows, float]]:
    for source in sources:
        chosen = _head(source.rows, head)
        if len(chosen.same):
            yield chosen, 1.0
        if source.edits is not None:
            changed = _head(source.edits, head)
            if head == "history":
                changed = changed.where(np.isin(changed.case, sorted(EDITS_WITH_HISTORY)))
            if len(changed.same):
                yield changed, EDIT_WEIGHT[head]


def _fit(parts: Sequence[tuple[Rows, float]]) -> lightgbm.Booster:
    features = np.concatenate([rows.features for rows, _ in parts])
    same = np.concatenate([rows.same for rows, _ in parts])
    weight = np.concatenate(
        [np.full(len(rows.same), 1e4 * share / len(rows.same)) for rows, share in parts]
    )
    return lightgbm.train(PARAMETERS, lightgbm.Dataset(features, same, weight=weight), ROUNDS)


def scores(models: Models, rows: Rows) -> Array:
    """Return the ensembles' scores, 0 where a rule is broken."""
    found = np.where(
        rows.kind == Kind.HISTORY.value,
        models["history"].predict(rows.features),
        models["alone"].predict(rows.features),
    )
    return np.where(rows.other | (rows.kind == Kind.BROKEN.value), 0.0, found)


# --- calibration -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows of a source with scores of models that did not learn from them."""

    source: str
    rows: Rows
    score: Array


def best(scored: Scored, value: Array) -> Array:
    """Return the row of each probe's surest candidate."""
    order = np.lexsort((value, scored.rows.probe))
    last = np.append(scored.rows.probe[order][1:] != scored.rows.probe[order][:-1], True)
    chosen: Array = order[last]
    return chosen


def calibrate(held_out: Sequence[Scored]) -> dict[str, dict[str, list[float]]]:
    """Find for each kind the least score at which each rate of false hits is kept.

    Sources weigh the same. To the observed rate one false hit is added (conformal risk control:
    n observations bound the risk of the next by (n R + 1) / (n + 1)).
    """
    found = {}
    for kind in Kind:
        if kind is Kind.BROKEN:
            continue
        score, right, weight = [], [], []
        for scored in held_out:
            rows = best(scored, scored.score)
            rows = rows[scored.rows.kind[rows] == kind.value]
            if len(rows) >= 50:
                score.append(scored.score[rows])
                right.append(scored.rows.same[rows])
                share = np.where(scored.rows.case[rows] == OTHER_QUESTION, INSTEAD_SHARE, 1.0)
                weight.append(share / max(1, scored.rows.same[rows].sum()))
        found[kind.value] = _curve(*map(np.concatenate, (score, right, weight)))
    return found


def _curve(score: Array, right: Array, weight: Array) -> dict[str, list[float]]:
    order = np.argsort(-score, kind="stable")
    score, right, weight = score[order], right[order], weight[order]
    count = np.arange(1, len(score) + 1)
    rate = np.cumsum(weight * ~right) / np.cumsum(weight)
    bound = (count * rate + 1) / (count + 1)
    known, sure = [0.0], [0.0]
    for limit in sorted(RATES, reverse=True):
        kept = np.flatnonzero(bound <= limit)
        if len(kept):
            least = float(score[kept[-1]])
            known.append(max(least, known[-1] + 1e-6))
            sure.append(1 - limit)
    known.append(1.0)
    sure.append(sure[-1])
    return {"score": [round(v, 6) for v in known], "sure": sure}


def probabilities(scored: Scored, curves: Mapping[str, Mapping[str, list[float]]]) -> Array:
    """Return calibrated probabilities of the rows."""
    result = np.zeros(len(scored.score))
    for kind, curve in curves.items():
        of_kind = scored.rows.kind == kind
        result[of_kind] = np.interp(scored.score[of_kind], curve["score"], curve["sure"])
    return result


def out_of_source(sources: Sequence[Learning]) -> list[Scored]:
    """Score each source by models that learnt from the others.

    The made questions are split by group instead: each half is scored by what learnt the other.
    """
    found = []
    for source in sources:
        others = [other for other in sources if other is not source]
        if source.name != "made":
            found.append(Scored(source.name, source.rows, scores(train(others), source.rows)))
            continue
        for inside in halves(source.rows):
            half = Learning("made", source.rows.where(~inside), None, {})
            tested = source.rows.where(inside)
            found.append(Scored("made", tested, scores(train([*others, half]), tested)))
    return found


def halves(rows: Rows) -> list[Array]:
    """Split rows in two by group."""
    names = np.unique(rows.group)
    first = np.isin(rows.group, np.random.default_rng(SEED).permutation(names)[::2])
    return [first, ~first]


# --- measures --------------------------------------------------------------------------------


def measure(scored: Scored, probability: Array, learning: Learning, rate: float) -> dict[str, Any]:
    """Return what hits at an asked-for rate of false hits would be, also by case.

    Other questions after the same history are a case, but count in none of the totals.
    """
    rows = best(scored, probability)
    hit = probability[rows] >= 1 - rate
    right = scored.rows.same[rows] & hit
    cases = {
        str(case): {
            "probes": int(of.sum()),
            "hits": int((hit & of).sum()),
            "right": int((right & of).sum()),
        }
        for case in np.unique(scored.rows.case)
        for of in [scored.rows.case[rows] == case]
    }
    expected = sum(learning.expected.values())
    hit &= scored.rows.case[rows] != OTHER_QUESTION
    return {
        "hits": int(hit.sum()),
        "false": int((hit & ~right).sum()),
        "precision": round(float(right.sum() / max(1, hit.sum())), 4),
        "hit_rate": round(float(right.sum() / max(1, expected)), 4),
        "cases": cases,
    }


def show(title: str, measured: Mapping[str, Mapping[float, Mapping[str, Any]]]) -> None:
    """Print precision / hit rate by source and rate."""
    print(f"\n{title}: precision / hit rate (false of hits)")
    print(f"{'':10}" + "".join(f"{rate:>26.1%}" for rate in REPORTED))
    for name, by_rate in measured.items():
        cells = [
            f"{m['precision']:.4f} / {m['hit_rate']:.3f} ({m['false']} of {m['hits']})"
            for m in by_rate.values()
        ]
        print(f"{name:10}" + "".join(f"{cell:>26}" for cell in cells))


Measures = dict[str, dict[float, dict[str, Any]]]


def show_cases(by_rate: Mapping[float, Mapping[str, Any]]) -> None:
    """Print hits of all probes by case and rate."""
    for case, counted in by_rate[REPORTED[0]]["cases"].items():
        hits = "".join(f"{m['cases'][case]['hits']:>8}" for m in by_rate.values())
        print(f"{case:40}{hits} of {counted['probes']}")


def shipped(
    learning: Learning, models: Models, curves: Mapping[str, Any]
) -> dict[float, dict[str, Any]]:
    """Measure what no model learnt from by the models and thresholds of all sources."""
    scored = Scored(learning.name, learning.rows, scores(models, learning.rows))
    sure = probabilities(scored, curves)
    return {rate: measure(scored, sure, learning, rate) for rate in REPORTED}


def pool(measured: Measures) -> None:
    """Print the share of false hits of all sources, its 95 % upper bound, and other questions'."""
    for rate in REPORTED:
        false = sum(by_rate[rate]["false"] for by_rate in measured.values())
        hits = sum(by_rate[rate]["hits"] for by_rate in measured.values())
        # Clopper and Pearson, one-sided.
        bound = beta.ppf(0.95, false + 1, hits - false)
        cases = [by_rate[rate]["cases"].get(OTHER_QUESTION) for by_rate in measured.values()]
        others = [sum(case[name] for case in cases if case) for name in ("hits", "probes")]
        print(
            f"pooled at {rate:.1%}: {false} of {hits} false, {false / hits:.2%}, at most "
            f"{bound:.2%}; other questions after the same history: {others[0]} of {others[1]}"
        )


def leave_one_out(sources: Sequence[Learning], held_out: Sequence[Scored]) -> Measures:
    """Measure each source by a model and by thresholds that others gave."""
    found = {}
    for source in sources:
        if source.name == "made":
            continue
        scored = next(each for each in held_out if each.source == source.name)
        curves = calibrate([each for each in held_out if each.source != source.name])
        sure = probabilities(scored, curves)
        found[source.name] = {rate: measure(scored, sure, source, rate) for rate in REPORTED}
    return found


def grouped(sources: Sequence[Learning], curves: Mapping[str, Any], folds: int = 4) -> Measures:
    """Measure each source by models that learnt from other conversations of all sources."""
    numbered = {
        name: place % folds
        for place, name in enumerate(
            np.random.default_rng(SEED).permutation(
                np.unique(np.concatenate([s.rows.group for s in sources]))
            )
        )
    }

    def fold_of(rows: Rows) -> Array:
        return np.array([numbered.get(group, -1) for group in rows.group])

    result = {source.name: np.zeros(len(source.rows.same)) for source in sources}
    for fold in range(folds):
        models = train(
            [
                Learning(
                    s.name,
                    s.rows.where(fold_of(s.rows) != fold),
                    s.edits and s.edits.where(fold_of(s.edits) != fold),
                    {},
                )
                for s in sources
            ]
        )
        for source in sources:
            inside = fold_of(source.rows) == fold
            result[source.name][inside] = scores(models, source.rows.where(inside))
    measured = {}
    for source in sources:
        scored = Scored(source.name, source.rows, result[source.name])
        sure = probabilities(scored, curves)
        measured[source.name] = {r: measure(scored, sure, source, r) for r in REPORTED}
    return measured


# --- the model file --------------------------------------------------------------------------


def flat(booster: lightgbm.Booster) -> dict[str, list[list[float]]]:
    """Return the trees as complete binary trees, level by level."""
    inner = 2**DEPTH - 1
    features, thresholds, leaves = [], [], []
    for tree in booster.dump_model()["tree_info"]:
        feature, threshold, leaf = [0] * inner, [0.0] * inner, [0.0] * (inner + 1)

        def put(
            node: Mapping[str, Any], place: int, feature=feature, threshold=threshold, leaf=leaf
        ) -> None:
            if place >= inner:
                leaf[place - inner] = round(node["leaf_value"], 5)
            elif "split_feature" not in node:
                put(node, 2 * place + 1)
                put(node, 2 * place + 2)
            else:
                feature[place] = node["split_feature"]
                threshold[place] = round(node["threshold"], 6)
                put(node["left_child"], 2 * place + 1)
                put(node["right_child"], 2 * place + 2)

        put(tree["tree_structure"], 0)
        features.append(feature)
        thresholds.append(threshold)
        leaves.append(leaf)
    return {"features": features, "thresholds": thresholds, "leaves": leaves}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help=f"write {MODEL_FILE.name}")
    parser.add_argument("--measure", action="store_true", help="leave sources and folds out")
    arguments = parser.parse_args()
    sources, made, embedder = asyncio.run(read(arguments.data))
    held_out = out_of_source(sources)
    curves = calibrate(held_out)
    for kind, curve in curves.items():
        print(kind, *(f"{s:.3f}>{p:.3f}" for s, p in zip(*curve.values(), strict=True)), flush=True)
    models = train(sources)
    if arguments.write:
        stored = {
            "embedder": embedder,
            "columns": NAMES,
            "calibration": curves,
            "trees": {head: flat(model) for head, model in models.items()},
        }
        MODEL_FILE.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")
    if arguments.measure:
        left_out = leave_one_out(sources, held_out)
        show("other sources", left_out)
        pool(left_out)
        measured = grouped(sources, curves)
        show("other conversations", measured)
        apart = {each.name: shipped(each, models, curves) for each in made}
        show("made questions in conversations", apart)
        show_cases(apart["forms"])
        tables = {
            "other conversations": measured,
            "other sources": left_out,
            "made questions in conversations": apart,
        }
        for title, table in tables.items():
            for name, by_rate in table.items():
                print(title, name, json.dumps(by_rate[0.01]["cases"]))


if __name__ == "__main__":
    main()
