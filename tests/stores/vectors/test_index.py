"""Recall over a vector store: as the exact index, for more items than it is made for."""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from tests.harness import unique
from tests.stores.sql.support import MODEL
from tests.stores.vectors.setups import (
    ALL,
    START,
    Opened,
    Place,
    point,
    topical,
    unit,
    within,
)

from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.model import MemoryKind, NewFact, NewMessage, Role, TextPart
from recollect_server.memory.ports import IndexResult, RecallFilter, RecallIndex
from recollect_server.memory.vector_store import RegisteredStore, VectorStore, VectorStoreState
from recollect_server.scope import Scope
from recollect_server.stores.exact import ExactIndex
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.vectors import VectorIndex

LONG = os.environ.get("RECOLLECT_VECTOR_PROOF") == "long"
"""The long form is what `make prove` runs."""

VECTORS, QUERIES, FACTS = (50_000, 10_000, 50_000) if LONG else (600, 200, 300)
RECALLED = 50 if LONG else 10
DIMENSIONS = 384 if LONG else 32
ADA = Scope("acme", "ada")
FACT = frozenset({MemoryKind.FACT})


class GivenEmbedder:
    """An embedder whose vectors are given by their texts, random otherwise."""

    model = MODEL

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        self.dimensions = dimensions
        self.given: dict[str, NDArray[np.float32]] = {}

    def expect(self, text: str) -> None:
        """Nothing takes long here."""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.given.get(text, self._random(text)) for text in texts])

    def _random(self, text: str) -> NDArray[np.float32]:
        seed = int.from_bytes(text.encode()[:8].ljust(8, b"\0"))
        return unit(np.random.default_rng(seed).standard_normal(self.dimensions))


def _at_most(count: int, url: str) -> int:
    """Qdrant's local mode goes through all points in Python, so it gets fewer of them."""
    return min(count, 5_000) if url.startswith("qdrant:///") else count


async def _registered(opened: Opened, embedder: GivenEmbedder) -> RegisteredStore:
    name = unique("recollect_t").replace("-", "_")
    await opened.store(embedder.dimensions, name)
    registered, _ = await opened.feeds.register(
        name, opened.url, MODEL, embedder.dimensions, fed=True
    )
    return registered


def _index(opened: Opened, store: RegisteredStore, embedder: GivenEmbedder) -> VectorIndex:
    return VectorIndex(
        opened.stores.source,
        embedder,
        store=opened.connections(store.url, store.name, store.dimensions),
        registered=store,
        state=opened.feeds,
        vectors=opened.vectors,
        few=0,
    )


async def _feed(opened: Opened, *, until_active: bool = False) -> None:
    """Run a feeder until nothing is behind."""
    feeding = asyncio.create_task(opened.feeder.run())
    try:
        async with asyncio.timeout(1200):
            while True:
                stores = await opened.feeds.stores()
                behind = [await opened.feeds.behind(store) for store in stores]
                filling = any(s.state is VectorStoreState.FILLING for s in stores)
                if not any(behind) and not (until_active and filling):
                    return
                await asyncio.sleep(0.05)
    finally:
        feeding.cancel()
        await asyncio.wait([feeding])


async def _recall(index, scope: Scope, query: str, limit: int = 10, **filter) -> IndexResult:
    kinds = filter.pop("kinds", ALL)
    return await index.search(scope, query, kinds=kinds, filter=RecallFilter(**filter), limit=limit)


@dataclass
class _Measured:
    found: int = 0
    wanted: int = 0
    seconds: float = 0.0


async def test_the_nearest_are_those_of_an_exact_search(opened: Opened):
    """Recall@10 of the stores alone, filtered or not; the figures are in docs/vector-stores.md."""
    count = _at_most(VECTORS, opened.url)
    await opened.stores.session(scope=ADA)
    store = await opened.store(DIMENSIONS)
    rows = topical(count, DIMENSIONS)
    began = time.perf_counter()
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        await store.upsert(
            ADA,
            [point(n, rows[n], kind=MemoryKind(1 + n % 2), session=f"s{n % 50}") for n in numbers],
        )
    filled = count / (time.perf_counter() - began)
    numbers = np.arange(count)
    late = count - count // 20
    filters = {
        "none": (within(), numbers >= 0),
        "kind": (within(MemoryKind(1)), numbers % 2 == 0),
        "session": (within(session_ids=frozenset({"s7"})), numbers % 50 == 7),
        "time": (within(start=START + timedelta(minutes=late)), numbers >= late),
    }
    rng = np.random.default_rng(2)
    for name, (bounds, passing) in filters.items():
        measured = _Measured()
        for _ in range(RECALLED):
            query = unit(rows[rng.integers(count)] + 0.05 * rng.standard_normal(DIMENSIONS))
            cosine = np.where(passing, rows @ query, -2)
            best = {f"i{n}" for n in np.argsort(-cosine)[:10]}
            began = time.perf_counter()
            found = await store.search(ADA, query, bounds, 200)
            measured.seconds += time.perf_counter() - began
            measured.found += len(best & {hit.item_id for hit in found[:10]})
            measured.wanted += 10
        share = measured.found / measured.wanted
        print(f"filter {name}: {share:.3f}, {1000 * measured.seconds / RECALLED:.1f} ms")
        assert share >= 0.98, name
    print(f"{opened.url}: {filled:.0f} points a second")


async def test_the_order_is_the_exact_index_s(opened: Opened):
    embedder = GivenEmbedder()
    words = "tea rain train river garden music winter letter market bridge".split()
    texts = [f"{words[n % 10]} and {words[n // 10 % 10]}, {n}" for n in range(1000)]
    rows = topical(len(texts), DIMENSIONS, seed=5)
    registered = await _registered(opened, embedder)
    await opened.remember(ADA, texts, rows)
    await opened.stores.session()
    await opened.stores.sessions.append_messages(
        ADA,
        "s",
        [NewMessage(Role.USER, (TextPart(text),)) for text in texts[500:]],
        request=None,
        expected_revision=None,
    )
    while task := await opened.stores.queue.lease_embedding(MODEL, 500):
        vectors = rows[np.array([int(item.text.rpartition(", ")[2]) for item in task.items])]
        await opened.stores.queue.complete_embedding(task, MODEL, vectors)
    await _feed(opened)
    exact = ExactIndex(opened.stores.source, embedder)
    index = _index(opened, registered, embedder)
    same = total = 0
    for number in range(20):
        query = f"{words[number % 10]} {words[number // 2]}?"
        embedder.given[query] = unit(rows[number * 3] + 0.05)
        for bounds in ({}, {"kinds": FACT}, {"session_ids": frozenset({"s"})}):
            wanted = await _recall(exact, ADA, query, **bounds)
            found = await _recall(index, ADA, query, **bounds)
            assert not found.degraded
            keys = {(r.kind, r.item_id) for r in found.ranked}
            same += sum((r.kind, r.item_id) in keys for r in wanted.ranked)
            total += len(wanted.ranked)
            scores = {(r.kind, r.item_id): r.score for r in wanted.ranked}
            for ranked in found.ranked:
                if (ranked.kind, ranked.item_id) in scores:
                    score = scores[ranked.kind, ranked.item_id]
                    assert ranked.score == pytest.approx(score, abs=1e-3)
    print(f"same as exact: {same / total:.3f} of {total}")
    assert same / total >= 0.98


NASTY = (
    *""" ' " \\ { } * % _ ? ; -- $in | @ [ ] ( ) : / .. é 中 🦊 OR-1=1 """.split(),
    *(" ", "\n", "\r", "\t", "\u202e"),
)


async def test_no_query_finds_what_is_another_s(opened: Opened):
    """Random scopes, ids and filters of nasty characters: each finds exactly its own."""
    chance = random.Random(11)
    rng = np.random.default_rng(11)

    def name() -> str:
        return "".join(chance.choices(NASTY, k=chance.randint(1, 4)))

    scopes = list({Scope(name(), name()) for _ in range(40)} | {Scope("a", "bc"), Scope("ab", "c")})
    empty = list({Scope(name(), name()) for _ in range(10)} - set(scopes))
    store = await opened.store(8)
    held: dict[Scope, dict[tuple[MemoryKind, str], str]] = {}
    shared = [name() for _ in range(30)]
    sessions = [name() for _ in range(5)]
    for scope in scopes:
        await opened.stores.session(scope=scope)
        points, held[scope] = [], {}
        for number in range(chance.randint(1, 25)):
            key = (chance.choice(list(MemoryKind)), chance.choice(shared))
            session = chance.choice(sessions)
            held[scope][key] = session
            vector = unit(rng.standard_normal(8))
            points.append(point(number, vector, kind=key[0], item_id=key[1], session=session))
        distinct = {(p.kind, p.item_id): p for p in points}
        await store.upsert(scope, list(distinct.values()))
    for _ in range(QUERIES):
        scope = chance.choice(scopes + empty)
        own = held.get(scope, {})
        kinds = frozenset(chance.sample(list(MemoryKind), chance.randint(1, 3)))
        wanted = frozenset(chance.sample([*sessions, name()], chance.randint(0, 2)))
        found = await store.search(
            scope, unit(rng.standard_normal(8)), within(*kinds, session_ids=wanted), 50
        )
        expected = {
            key
            for key, session in own.items()
            if key[0] in kinds and (not wanted or session in wanted)
        }
        assert {(hit.kind, hit.item_id) for hit in found} == expected, (scope, kinds, wanted)
        if chance.random() < 0.01 and own:
            key = chance.choice(list(own))
            del held[scope][key]
            await store.delete(scope, [key])


class Deletion:
    """Facts, half of which are forgotten, and questions that would find each of them first.

    Prints how long each step took.
    """

    def __init__(self, count: int) -> None:
        chance = random.Random(5)
        self.count = count
        self.rows = topical(count, DIMENSIONS, seed=3)
        self.gone = set(chance.sample(range(count), count // 2))
        self.asked = chance.sample(sorted(self.gone), 20) + chance.sample(range(count), 20)
        self.embedder = GivenEmbedder()
        self.embedder.given = {_fact(number): self.rows[number] for number in self.asked}
        self._since = time.perf_counter()

    def step(self, name: str) -> None:
        now = time.perf_counter()
        print(f"{name}: {now - self._since:.1f} s")
        self._since = now

    async def store(self, opened: Opened) -> None:
        texts = [_fact(number) for number in range(self.count)]
        # In time PostgreSQL looks by itself which index is the right one. A test is faster.
        await opened.remember(ADA, texts[:100], self.rows[:100])
        if isinstance(opened.location, str):
            with psycopg.connect(opened.location, autocommit=True) as connection:
                connection.execute("ANALYZE")
        await opened.remember(ADA, texts[100:], self.rows[100:], first=100)
        self.step("facts and their vectors stored")

    async def forget(self, opened: Opened) -> None:
        fact_ids = [f"f{number}" for number in sorted(self.gone)]
        for start in range(0, len(fact_ids), 200):
            await asyncio.gather(
                *(opened.stores.facts.forget_fact(ADA, f) for f in fact_ids[start : start + 200])
            )
        self.step(f"{len(fact_ids)} facts forgotten")

    async def check(self, index: RecallIndex, when: str) -> None:
        """Fail if one is found that is gone, or one is not that is there."""
        for number in self.asked:
            found = await _recall(index, ADA, _fact(number), limit=100)
            assert not found.degraded
            numbers = [int(ranked.item_id[1:]) for ranked in found.ranked]
            assert len(numbers) == min(100, self.count - len(self.gone))
            assert not self.gone.intersection(numbers)
            if number not in self.gone:
                assert numbers[0] == number
        self.step(f"{len(self.asked)} recalls {when}")


def _fact(number: int) -> str:
    return f"fact number {number}"


async def test_what_was_deleted_is_recalled_from_no_store(place: Place):
    """Half of all facts deleted: gone at once, after a restart, and after filling another store."""
    proof = Deletion(_at_most(FACTS, place.url))
    left = proof.count - len(proof.gone)
    print(f"{place.url}: {proof.count} facts")
    async with place.open() as opened:
        first = await _registered(opened, proof.embedder)
        await proof.store(opened)
        await _feed(opened, until_active=True)
        proof.step("vector store filled")
        holds = opened.connections(first.url, first.name, DIMENSIONS)
        assert await holds.count(ADA) == proof.count
        await proof.forget(opened)
        index = _index(opened, first, proof.embedder)
        await proof.check(index, "at once")
        await _feed(opened)
        proof.step("vector store fed")
        assert await holds.count(ADA) == left
        await proof.check(index, "once it is fed")
    async with place.open() as opened:
        first = next(s for s in await opened.feeds.stores() if s.name == first.name)
        assert first.state is VectorStoreState.ACTIVE
        await proof.check(_index(opened, first, proof.embedder), "after a restart")
        second = await _registered(opened, proof.embedder)
        await _feed(opened, until_active=True)
        proof.step("another one filled")
        holds = opened.connections(second.url, second.name, DIMENSIONS)
        assert await holds.count(ADA) == left
        await proof.check(_index(opened, second, proof.embedder), "of the other one")


async def test_what_was_deleted_is_recalled_from_no_exact_index(tmp_path: Path):
    """The same for the index that stands in memory, of one that held all and of a new one."""
    proof = Deletion(FACTS)
    file = tmp_path / "recollect.db"
    migrate(file)
    place = Place(file, "exact:")
    async with place.open() as opened:
        await proof.store(opened)
        index = ExactIndex(opened.stores.source, proof.embedder)
        assert (await _recall(index, ADA, _fact(proof.asked[0]))).ranked
        proof.step("index filled")
        await proof.forget(opened)
        await proof.check(index, "at once")
    async with place.open() as opened:
        index = ExactIndex(opened.stores.source, proof.embedder)
        await proof.check(index, "after a restart")


class _Down:
    """A store that is down while it is said to be."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self.down = True

    def __getattr__(self, name: str):
        if self.down:

            async def refuse(*_: object) -> None:
                raise Unavailable(Reason.STORE_UNAVAILABLE, "it is down")

            return refuse
        return getattr(self._store, name)


async def test_while_the_store_is_down_words_rank_and_it_catches_up(opened: Opened):
    embedder = GivenEmbedder()
    registered = await _registered(opened, embedder)
    await opened.remember(ADA, ["the river floods", "tea at noon"], topical(2, DIMENSIONS))
    index = _index(opened, registered, embedder)
    flaky = _Down(opened.connections(registered.url, registered.name, DIMENSIONS))
    index._store = flaky  # type: ignore[assignment]
    found = await _recall(index, ADA, "river")
    assert found.degraded
    assert [ranked.item_id for ranked in found.ranked] == ["f0"]
    revision, indexed = await opened.feeds.indexed_revision(registered, ADA)
    if opened.url != "pgvector:":
        assert indexed < revision
    flaky.down = False
    await _feed(opened)
    found = await _recall(index, ADA, "river")
    assert not found.degraded
    assert found.indexed_revision == revision
    assert {ranked.item_id for ranked in found.ranked} == {"f0", "f1"} or len(found.ranked) == 1


async def test_a_store_that_lost_everything_is_filled_again(opened: Opened):
    embedder = GivenEmbedder()
    registered = await _registered(opened, embedder)
    await opened.remember(ADA, ["a", "b", "c"], topical(3, DIMENSIONS))
    await _feed(opened)
    store = opened.connections(registered.url, registered.name, DIMENSIONS)
    assert await store.count(ADA) == 3
    if opened.url == "pgvector:":
        return  # lost with the database alone
    await store.drop()
    feeding = asyncio.create_task(opened.feeder.run())
    async with asyncio.timeout(30):
        while True:
            if await store.exists() and await store.count(ADA) == 3:
                break
            await asyncio.sleep(0.05)
    feeding.cancel()
    await asyncio.wait([feeding])
    # This process's own handle is from before the loss, as that of one that feeds nothing.
    found = await store.search(ADA, topical(3, DIMENSIONS)[0], within(), 3)
    assert len(found) == 3


async def test_a_fact_s_new_text_takes_the_place_of_the_old(opened: Opened):
    embedder = GivenEmbedder()
    registered = await _registered(opened, embedder)
    await opened.stores.facts.remember(ADA, [NewFact("old", "f0")], None)
    old, new = topical(2, DIMENSIONS)
    for vector in (old, new):
        while task := await opened.stores.queue.lease_embedding(MODEL, 8):
            await opened.stores.queue.complete_embedding(task, MODEL, vector[None])
        await _feed(opened)
        await opened.stores.facts.update_fact(ADA, "f0", {"text": "new"})
    store = opened.connections(registered.url, registered.name, DIMENSIONS)
    assert await store.count(ADA) == 1
    (hit,) = await store.search(ADA, new, within(), 5)
    assert hit.similarity == pytest.approx(1, abs=1e-2)
