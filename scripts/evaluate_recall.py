"""Measure recall on files of questions, and what each feature of the rank is worth.

    python scripts/evaluate_recall.py DATA.jsonl... [--stand-ins ENTRIES.jsonl...] [--ablation]
        [--fit] [--words-only]

A file holds one JSON object a line: `{"kind":"turn","user","session","id","time","speaker",
"text"}`, `{"kind":"fact","user","id","text"}` and `{"kind":"question","user","text",
"relevant":[ids],"category"}`. It ranks in this process, without a server; `recollect bench recall`
goes through one.

`--stand-ins` adds kinds of conversation made of the files' texts (see `recall_kinds.py`) and of
the answers in files of `{"messages": [{"role", "content"}]}`. `--fit` learns weights from all
users but one, of all kinds, and measures them on that one. Vectors are kept in the temporary
folder for the next run.
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
from numpy.typing import NDArray
from recall_fit import Example, fit
from recall_kinds import (
    REQUEST_WORDS,
    Padding,
    Person,
    Question,
    answers_long,
    facts_told,
    paragraphs,
    threads,
    user_long,
)

from recollect_server.memory.model import MemoryKind, Role, Vector
from recollect_server.memory.ports import IndexItem, RecallFilter
from recollect_server.memory.recall import Corpus, analyse, embedding_text, rank
from recollect_server.memory.recall.layout import Floats
from recollect_server.memory.recall.ranking import FEATURES, Evidence, Feature
from recollect_server.models.minilm import MiniLmEmbedder

TIME_FORMATS = ("%I:%M %p on %d %B, %Y", "%d %B, %Y", "%B %Y", "%Y")
CUTS = (5, 10)
DEPTH = 100


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
    kind: "Kind", vectors: Vectors, features: tuple[Feature, ...], words_only: bool
) -> Scores:
    """Ask every question of every person."""
    scores = Scores()
    for user, person in kind.people.items():
        corpus = kind.corpora[user]
        await ask(person, corpus, vectors, features, scores, words_only=words_only)
    return scores


async def ask(
    person: Person,
    corpus: Corpus,
    vectors: Vectors,
    features: tuple[Feature, ...],
    scores: Scores,
    *,
    words_only: bool = False,
) -> None:
    """Ask a person's questions and count the answers."""
    kinds = frozenset(item.kind for item in person.items)
    queries = [analyse(question.text, corpus) for question in person.questions]
    embedded = await vectors.get([query.embedding_text for query in queries])
    corpus.layout()
    for question, vector in zip(person.questions, embedded, strict=True):
        start = time.perf_counter()
        query = analyse(question.text, corpus)
        meant = None if words_only else vector
        ranked = rank(corpus, query, meant, kinds, RecallFilter(), DEPTH, features)
        took = (time.perf_counter() - start) * 1000
        scores.add(question, [r.item_id for r in ranked], took)


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


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of conversation, embedded and indexed."""

    name: str
    people: Mapping[str, Person]
    corpora: Mapping[str, Corpus]


async def read_kinds(
    paths: Sequence[Path], entries: Sequence[Path], vectors: Vectors
) -> list[Kind]:
    """The files' kinds, and with `entries` those made of them."""
    read = {path.stem: read_people(path) for path in paths}
    made: dict[str, Mapping[str, Person]] = dict(read)
    if entries:
        made |= await stand_ins(read, [t for path in entries for t in paragraphs(path)], vectors)
    return [Kind(name, people, await build(people, vectors)) for name, people in made.items()]


async def stand_ins(
    read: Mapping[str, Mapping[str, Person]], texts: Sequence[str], vectors: Vectors
) -> dict[str, Mapping[str, Person]]:
    """Other kinds made of the files' texts and of these."""
    friends, chats, facts = {}, {}, {}
    for people in read.values():
        for user, person in people.items():
            if all(item.kind is MemoryKind.FACT for item in person.items):
                facts[user] = person
            elif any(item.role is Role.ASSISTANT for item in person.items):
                chats[user] = person
            else:
                friends[user] = person
    asked = {
        item.text
        for person in chats.values()
        for item in person.items
        if item.role is Role.USER and len(item.text.split()) >= REQUEST_WORDS
    }
    made: dict[str, Mapping[str, Person]] = {}
    if friends:
        made["threads"] = threads(friends)
    if friends and chats:
        requests = Padding(sorted(asked), vectors.get)
        made["user_long"] = await user_long(friends, requests, Padding(texts, vectors.get))
    if chats:
        long = await answers_long(chats, Padding(texts, vectors.get))
        made["answers_long"] = long
        if facts:
            made["facts_told"] = facts_told(facts, long)
    return made


SINGLE = (
    Feature("vector", 1.0, lambda evidence: evidence.own),
    Feature("bm25", 1.0, lambda evidence: usual_bm25(evidence)),
)
"""The plain methods to compare with: one vector a message, and BM25 with its usual constants."""


def usual_bm25(evidence: Evidence) -> Floats:
    """BM25 of single items with k1 1.2 and b 0.75 around the mean length."""
    found, idf = evidence.occurrences
    if not len(idf):
        return np.zeros(len(evidence.items), np.float32)
    length = evidence.items["terms"] / max(evidence.items["terms"].mean(), 1)
    return np.asarray(idf @ (found * 2.2 / (found + 1.2 * (0.25 + 0.75 * length))), np.float32)


def variants(ablation: bool) -> Iterator[tuple[str, tuple[Feature, ...]]]:
    """The full rank, and with `ablation` plain methods and the rank without each feature."""
    yield "all", FEATURES
    if ablation:
        for single in SINGLE:
            yield f"plain {single.name}", (single,)
        for left_out in FEATURES:
            yield f"without {left_out.name}", tuple(f for f in FEATURES if f is not left_out)


async def examples(kind: Kind, vectors: Vectors) -> list[Example]:
    """The questions whose answer is among the best `DEPTH`, to learn from."""
    found = []
    for user, person in kind.people.items():
        corpus = kind.corpora[user]
        kinds = frozenset(item.kind for item in person.items)
        queries = [analyse(question.text, corpus) for question in person.questions]
        embedded = await vectors.get([query.embedding_text for query in queries])
        for question, query, vector in zip(person.questions, queries, embedded, strict=True):
            ranked = rank(corpus, query, vector, kinds, RecallFilter(), DEPTH)
            terms = [{term.name: term.value for term in r.terms} for r in ranked]
            values = np.array([[t.get(f.name, 0.0) for f in FEATURES] for t in terms])
            relevant = np.array([r.item_id in question.relevant for r in ranked], np.bool_)
            if relevant.any():
                found.append(Example(values, relevant, kind.name, user))
    return found


async def measure_fitted(kinds: Sequence[Kind], vectors: Vectors) -> None:
    """Print what weights learned without a user's questions do on that user, by kind."""
    known = [example for kind in kinds for example in await examples(kind, vectors)]
    users = sorted({example.user for example in known})
    everyone = fit(known)
    show_weights("fitted to all", everyone)
    fitted = {user: fit([e for e in known if e.user != user], everyone) for user in users}
    print(f"{'weights learned without the user':34}    R@5    R@10     MRR      n")
    for kind in kinds:
        scores = Scores()
        for user, person in kind.people.items():
            if user in fitted:
                weighted = zip(FEATURES, fitted[user].tolist(), strict=True)
                features = tuple(replace(feature, weight=w) for feature, w in weighted)
                await ask(person, kind.corpora[user], vectors, features, scores)
        print(f"  {kind.name:32}{scores.row('all')}")


def show_weights(title: str, weights: NDArray[np.float64]) -> None:
    """Print weights, that of meaning set to what the rank has."""
    meaning = next(i for i, feature in enumerate(FEATURES) if feature.name == "meaning")
    weights = weights * FEATURES[meaning].weight / weights[meaning]
    pairs = zip(FEATURES, weights, strict=True)
    print(f"{title}: " + ", ".join(f"{feature.name} {w:.2f}" for feature, w in pairs))


async def measure(arguments: argparse.Namespace) -> None:
    """Print a table for each kind."""
    embedder = MiniLmEmbedder()
    vectors = Vectors(embedder)
    try:
        kinds = await read_kinds(arguments.data, arguments.stand_ins, vectors)
        vectors.save()
        for kind in kinds:
            sizes = [len(corpus) for corpus in kind.corpora.values()]
            print(f"{kind.name}: {len(sizes)} users of {min(sizes)} to {max(sizes)} items")
            print(f"  {'':24}    R@5    R@10     MRR      n")
            for name, features in variants(arguments.ablation):
                scores = await evaluate(kind, vectors, features, arguments.words_only)
                print(f"  {name:24}{scores.row('all')}")
                if features is FEATURES:
                    for category in sorted(scores.by_category.keys() - {"all"}):
                        print(f"    category {category:13}{scores.row(category)}")
                    print(f"  median {statistics.median(scores.milliseconds):.2f} ms a question")
        if arguments.fit:
            await measure_fitted(kinds, vectors)
        vectors.save()
    finally:
        await embedder.close()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument(
        "--stand-ins", nargs="+", type=Path, default=[], help="other kinds too, made with these"
    )
    parser.add_argument("--ablation", action="store_true", help="also without each feature")
    parser.add_argument("--fit", action="store_true", help="also with learned weights")
    parser.add_argument("--words-only", action="store_true", help="as if the embedder were down")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
