"""Measure recall on files of questions, and what each feature of the rank is worth.

    python scripts/evaluate_recall.py DATA.jsonl... [--ablation] [--words-only]

A file holds one JSON object a line: `{"kind":"turn","user","session","id","time","speaker",
"text"}`, `{"kind":"fact","user","id","text"}` and `{"kind":"question","user","text",
"relevant":[ids],"category"}`. It ranks in this process, without a server; `recollect bench recall`
goes through one. Vectors are kept in the temporary folder for the next run.
"""

import argparse
import asyncio
import hashlib
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recollect_server.memory.model import MemoryKind, Role, Vector
from recollect_server.memory.ports import IndexItem, RecallFilter
from recollect_server.memory.recall import Corpus, analyse, embedding_text, rank
from recollect_server.memory.recall.ranking import FEATURES, Feature
from recollect_server.models.minilm import MiniLmEmbedder

TIME_FORMATS = ("%I:%M %p on %d %B, %Y", "%d %B, %Y", "%B %Y", "%Y")
CUTS = (5, 10)
DEPTH = 100


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the ids of the items that answer it."""

    text: str
    relevant: frozenset[str]
    category: str


@dataclass(slots=True)
class Person:
    """One user's items and questions."""

    items: list[IndexItem] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def parse_time(text: str) -> datetime:
    """Read a time as tolerantly as the data needs; without any, the epoch."""
    for form in TIME_FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def read_people(path: Path) -> dict[str, Person]:
    """Read a file. Raises `SystemExit` naming the line that is wrong."""
    people: dict[str, Person] = defaultdict(Person)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            person = people[row["user"]]
            if row["kind"] == "question":
                person.questions.append(
                    Question(row["text"], frozenset(row["relevant"]), str(row["category"]))
                )
            else:
                person.items.append(item_of(row, len(person.items) + 1))
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path}:{number}: {error!r}") from error
    return dict(people)


def item_of(row: Mapping[str, Any], sequence: int) -> IndexItem:
    """Make an item of a line; its place in the file is its place in the session."""
    turn = row["kind"] == "turn"
    speaker = row.get("speaker", "")
    roles = {role.name.lower(): role for role in Role}
    return IndexItem(
        kind=MemoryKind.TURN if turn else MemoryKind.FACT,
        item_id=row["id"],
        session_id=row["session"] if turn else "",
        sequence=sequence if turn else 0,
        role=roles.get(speaker.lower(), Role.USER),
        speaker=speaker,
        text=row["text"],
        time=parse_time(row.get("time", "")),
        metadata={},
        vector=None,
    )


class Vectors:
    """Vectors by text, kept in a file between runs."""

    def __init__(self, embedder: MiniLmEmbedder) -> None:
        self._embedder = embedder
        self._path = Path(tempfile.gettempdir()) / f"recollect-vectors-{embedder.model}.npz"
        self._known: dict[str, Vector] = {}
        if self._path.exists():
            with np.load(self._path) as stored:
                self._known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    async def get(self, texts: Sequence[str]) -> list[Vector]:
        """Return the texts' vectors in order, computing those that are new."""
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._known}
        if missing:
            computed = await self._embedder.embed(list(missing.values()))
            self._known.update(zip(missing, computed, strict=True))
        return [self._known[key] for key in keys]

    def save(self) -> None:
        """Write the file, whole or not at all."""
        temporary = self._path.with_suffix(f".{time.time_ns()}.npz")
        np.savez(
            temporary, keys=np.array(list(self._known)), vectors=np.stack([*self._known.values()])
        )
        temporary.replace(self._path)


@dataclass(slots=True)
class Scores:
    """Measures of one run over a file's questions, by category and under "all"."""

    by_category: dict[str, list[tuple[float, ...]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    milliseconds: list[float] = field(default_factory=list)

    def add(self, question: Question, found: Sequence[str], milliseconds: float) -> None:
        """Count one answered question."""
        recalls = [len(question.relevant & set(found[:k])) / len(question.relevant) for k in CUTS]
        ranks = [i for i, item_id in enumerate(found, 1) if item_id in question.relevant]
        measures = (*recalls, 1 / ranks[0] if ranks else 0.0)
        for category in ("all", question.category):
            self.by_category[category].append(measures)
        self.milliseconds.append(milliseconds)

    def row(self, category: str) -> str:
        """One line of the table."""
        measures = self.by_category[category]
        means = (statistics.mean(column) for column in zip(*measures, strict=True))
        return " ".join(f"{mean:7.3f}" for mean in means) + f" {len(measures):6d}"


async def evaluate(
    people: Mapping[str, Person],
    corpora: Mapping[str, Corpus],
    vectors: Vectors,
    features: tuple[Feature, ...],
    words_only: bool,
) -> Scores:
    """Ask every question of every person."""
    scores = Scores()
    for user, person in people.items():
        corpus = corpora[user]
        kinds = frozenset(item.kind for item in person.items)
        queries = [analyse(question.text, corpus) for question in person.questions]
        embedded = await vectors.get([query.embedding_text for query in queries])
        corpus.layout()
        for question, vector in zip(person.questions, embedded, strict=True):
            start = time.perf_counter()
            query = analyse(question.text, corpus)
            ranked = rank(
                corpus,
                query,
                None if words_only else vector,
                kinds,
                RecallFilter(),
                DEPTH,
                features,
            )
            took = (time.perf_counter() - start) * 1000
            scores.add(question, [r.item_id for r in ranked], took)
    return scores


async def build(people: Mapping[str, Person], vectors: Vectors) -> dict[str, Corpus]:
    """Embed and index every person's items."""
    corpora = {}
    for user, person in people.items():
        embedded = await vectors.get([embedding_text(item) for item in person.items])
        corpora[user] = Corpus()
        corpora[user].upsert(
            [replace(i, vector=v) for i, v in zip(person.items, embedded, strict=True)]
        )
    return corpora


def variants(ablation: bool) -> Iterator[tuple[str, tuple[Feature, ...]]]:
    """The full rank, and with `ablation` the rank without each feature and with one alone."""
    yield "all", FEATURES
    if ablation:
        for left_out in FEATURES:
            yield f"without {left_out.name}", tuple(f for f in FEATURES if f is not left_out)
        for alone in FEATURES[:2]:
            yield f"{alone.name} alone", (alone,)


async def measure(paths: Sequence[Path], ablation: bool, words_only: bool) -> None:
    """Print a table for each file."""
    embedder = MiniLmEmbedder()
    vectors = Vectors(embedder)
    try:
        for path in paths:
            people = read_people(path)
            corpora = await build(people, vectors)
            sizes = [len(corpus) for corpus in corpora.values()]
            print(f"{path.name}: {len(people)} users of {min(sizes)} to {max(sizes)} items")
            print(f"  {'':24}    R@5    R@10     MRR      n")
            for name, features in variants(ablation):
                scores = await evaluate(people, corpora, vectors, features, words_only)
                print(f"  {name:24}{scores.row('all')}")
                if features is FEATURES:
                    for category in sorted(scores.by_category.keys() - {"all"}):
                        print(f"    category {category:13}{scores.row(category)}")
                    print(f"  median {statistics.median(scores.milliseconds):.2f} ms a question")
            vectors.save()
    finally:
        await embedder.close()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--ablation", action="store_true", help="also without each feature")
    parser.add_argument("--words-only", action="store_true", help="as if the embedder were down")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.data, arguments.ablation, arguments.words_only))


if __name__ == "__main__":
    main()
