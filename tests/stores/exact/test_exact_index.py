import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.model import MemoryKind, Role
from recollect_server.memory.ports import (
    IndexChanges,
    IndexItem,
    IndexResult,
    RecallFilter,
)
from recollect_server.memory.recall import embedding_text
from recollect_server.models.minilm import MiniLmEmbedder
from recollect_server.scope import Scope
from recollect_server.stores.exact import ExactIndex

ANA = Scope("acme", "ana")
TURNS = frozenset({MemoryKind.TURN})


class WordEmbedder:
    """A vector is the sum of one pseudo-random vector a word; equal words, equal vectors."""

    model = "words"
    dimensions = 16

    def __init__(self) -> None:
        self.down = False
        self.calls = 0

    def expect(self, text: str) -> None:
        """Nothing takes long here."""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        if self.down:
            raise Unavailable(Reason.MODEL_UNAVAILABLE, "the embedder is down")
        await asyncio.sleep(0)
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> NDArray[np.float32]:
        """The text's unit vector, shape (16,)."""
        total = np.full(16, 1e-3, np.float32)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4])
            total += np.random.default_rng(seed).standard_normal(16).astype(np.float32)
        return total / np.linalg.norm(total)


class MemorySource:
    """An `IndexSource` over a log of changes a user, as SQL keeps it."""

    def __init__(self) -> None:
        self._log: dict[Scope, list[tuple[str, IndexItem]]] = {}
        self._indexed: dict[Scope, int] = {}
        self.loads: list[tuple[Scope, int]] = []
        self.loading = 0
        self.most_loading = 0
        self.down = False

    def put(self, scope: Scope, *items: IndexItem) -> None:
        """Write items, one revision each."""
        for item in items:
            self._log.setdefault(scope, []).append(("put", item))
            if item.vector is not None and self._indexed.get(scope, 0) == self.revision(scope) - 1:
                self._indexed[scope] = self.revision(scope)

    def embed(self, scope: Scope, embedder: WordEmbedder) -> None:
        """Give every item its vector, in one revision each."""
        for item in [item for what, item in self._log[scope] if what == "put"]:
            vector = embedder.vector(embedding_text(item))
            self._log[scope].append(("put", replace(item, vector=vector)))
        self._indexed[scope] = self.revision(scope)

    def delete(self, scope: Scope, item: IndexItem) -> None:
        """Delete an item."""
        self._log[scope].append(("delete", item))

    def erase(self, scope: Scope) -> None:
        """Delete the user with the revisions."""
        del self._log[scope]
        self._indexed.pop(scope, None)

    def revision(self, scope: Scope) -> int:
        return len(self._log.get(scope, ()))

    async def user_revision(self, scope: Scope) -> tuple[int, int]:
        if self.down:
            raise Unavailable(Reason.STORE_UNAVAILABLE, "SQL is down")
        await asyncio.sleep(0)
        return self.revision(scope), self._indexed.get(scope, 0)

    async def index_changes(self, scope: Scope, since: int, model: str) -> IndexChanges:
        self.loads.append((scope, since))
        self.loading += 1
        self.most_loading = max(self.loading, self.most_loading)
        await asyncio.sleep(0)
        state: dict[tuple[MemoryKind, str], tuple[str, IndexItem]] = {}
        for what, item in self._log.get(scope, ())[since:]:
            state[item.kind, item.item_id] = (what, item)
        self.loading -= 1
        return IndexChanges(
            self.revision(scope),
            self._indexed.get(scope, 0),
            tuple(item for what, item in state.values() if what == "put"),
            tuple(key for key, (what, _) in state.items() if what == "delete"),
            complete=since == 0,
        )


def turn(sequence: int, text: str, session: str = "s") -> IndexItem:
    """A turn without a vector."""
    return IndexItem(
        MemoryKind.TURN,
        f"{session}:{sequence}",
        session,
        sequence,
        Role.USER,
        "user",
        text,
        datetime(2024, 3, 4, tzinfo=UTC),
        {},
        None,
    )


async def search(index: ExactIndex, scope: Scope, query: str, limit: int = 10) -> IndexResult:
    """Search the turns."""
    return await index.search(scope, query, kinds=TURNS, filter=RecallFilter(), limit=limit)


async def found(index: ExactIndex, scope: Scope, query: str) -> list[str]:
    """The found turns' ids."""
    return [r.item_id for r in (await search(index, scope, query)).ranked]


@pytest.fixture
def source() -> MemorySource:
    return MemorySource()


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def index(source: MemorySource, embedder: WordEmbedder) -> ExactIndex:
    return ExactIndex(source, embedder)


@pytest.fixture
async def minilm() -> AsyncIterator[MiniLmEmbedder]:
    embedder = MiniLmEmbedder(threads=1)
    yield embedder
    await embedder.close()


async def test_a_user_without_data_finds_nothing_and_costs_nothing(
    index: ExactIndex, embedder: WordEmbedder
) -> None:
    assert await search(index, ANA, "piano") == IndexResult((), 0, degraded=False)
    assert embedder.calls == 0
    assert index.residents.scopes() == ()


async def test_a_write_is_found_by_words_before_it_is_embedded(
    index: ExactIndex, source: MemorySource
) -> None:
    source.put(ANA, turn(1, "I play the piano"))
    result = await search(index, ANA, "who plays piano")
    assert [r.item_id for r in result.ranked] == ["s:1"]
    assert result.indexed_revision == 0
    assert not result.degraded


async def test_vectors_that_came_after_their_texts_are_seen(
    index: ExactIndex, source: MemorySource, embedder: WordEmbedder
) -> None:
    source.put(ANA, turn(1, "the or piano"), turn(2, "goat", session="t"))
    assert await found(index, ANA, "the or") == []
    source.embed(ANA, embedder)
    result = await search(index, ANA, "the or")
    assert result.ranked[0].item_id == "s:1"
    assert result.indexed_revision == 4


async def test_only_what_changed_is_loaded_again(
    index: ExactIndex, source: MemorySource, embedder: WordEmbedder
) -> None:
    source.put(ANA, *(turn(i, "piano") for i in range(1, 6)))
    source.embed(ANA, embedder)
    await search(index, ANA, "piano")
    await search(index, ANA, "piano")
    source.put(ANA, turn(6, "cello"))
    assert (await found(index, ANA, "cello"))[0] == "s:6"
    assert source.loads == [(ANA, 0), (ANA, 10)]


async def test_a_deleted_item_is_never_returned(index: ExactIndex, source: MemorySource) -> None:
    items = [turn(i, "piano", session=f"s{i}") for i in range(1, 4)]
    source.put(ANA, *items)
    assert len(await found(index, ANA, "piano")) == 3
    source.delete(ANA, items[1])
    assert set(await found(index, ANA, "piano")) == {"s1:1", "s3:3"}


async def test_a_user_erased_and_written_anew_shows_only_the_new(
    index: ExactIndex, source: MemorySource
) -> None:
    source.put(ANA, turn(1, "old piano"), turn(2, "older piano", session="t"))
    await search(index, ANA, "piano")
    source.erase(ANA)
    assert await found(index, ANA, "piano") == []
    source.put(ANA, turn(7, "new piano"))
    assert await found(index, ANA, "piano") == ["s:7"]


async def test_a_dropped_user_is_loaded_anew(index: ExactIndex, source: MemorySource) -> None:
    source.put(ANA, turn(1, "piano"))
    await search(index, ANA, "piano")
    index.residents.drop(ANA)
    assert index.residents.scopes() == ()
    assert index.residents.nbytes == 0
    assert await found(index, ANA, "piano") == ["s:1"]


async def test_scopes_never_see_each_other(index: ExactIndex, source: MemorySource) -> None:
    scopes = [Scope("acme", "ana"), Scope("acme", "bo"), Scope("other", "ana")]
    for number, scope in enumerate(scopes, 1):
        source.put(scope, turn(number, "the piano"))
    results = await asyncio.gather(*(found(index, scope, "piano") for scope in scopes * 3))
    assert results == [["s:1"], ["s:2"], ["s:3"]] * 3


async def test_searches_at_once_load_a_user_once(
    index: ExactIndex, source: MemorySource, embedder: WordEmbedder
) -> None:
    source.put(ANA, turn(1, "piano"))
    source.embed(ANA, embedder)
    results = await asyncio.gather(*(found(index, ANA, "piano") for _ in range(20)))
    assert results == [["s:1"]] * 20
    assert source.loads == [(ANA, 0)]
    assert source.most_loading == 1


async def test_words_rank_and_say_so_when_the_embedder_is_down(
    index: ExactIndex, source: MemorySource, embedder: WordEmbedder
) -> None:
    source.put(ANA, turn(1, "the piano"), turn(2, "the goat", session="t"))
    source.embed(ANA, embedder)
    embedder.down = True
    result = await search(index, ANA, "piano")
    assert result.degraded
    assert [r.item_id for r in result.ranked] == ["s:1"]
    embedder.down = False
    assert not (await search(index, ANA, "piano")).degraded


async def test_an_outage_of_the_source_is_an_error_and_not_an_old_answer(
    index: ExactIndex, source: MemorySource
) -> None:
    source.put(ANA, turn(1, "piano"))
    await search(index, ANA, "piano")
    source.down = True
    with pytest.raises(Unavailable):
        await search(index, ANA, "piano")
    source.down = False
    assert await found(index, ANA, "piano") == ["s:1"]


async def test_the_least_recently_searched_users_leave_when_the_budget_is_full(
    source: MemorySource, embedder: WordEmbedder
) -> None:
    scopes = [Scope("acme", f"user{i}") for i in range(6)]
    for scope in scopes:
        source.put(scope, *(turn(i, f"piano number {i}") for i in range(50)))
    probe = ExactIndex(source, embedder)
    await search(probe, scopes[0], "piano")
    index = ExactIndex(source, embedder, budget=int(3.5 * probe.residents.nbytes))
    for scope in scopes[:3]:
        await search(index, scope, "piano")
    await search(index, scopes[0], "piano")
    await search(index, scopes[3], "piano")
    assert index.residents.scopes() == (scopes[2], scopes[0], scopes[3])
    assert index.residents.nbytes <= 3.5 * probe.residents.nbytes
    for scope in scopes:
        assert len(await found(index, scope, "piano")) == 10


async def test_a_user_larger_than_the_budget_is_still_served(
    source: MemorySource, embedder: WordEmbedder
) -> None:
    index = ExactIndex(source, embedder, budget=1)
    source.put(ANA, turn(1, "piano"))
    assert await found(index, ANA, "piano") == ["s:1"]
    assert await found(index, ANA, "piano") == ["s:1"]
    assert source.loads[0] == (ANA, 0)


async def test_a_large_load_leaves_the_event_loop_alone(
    index: ExactIndex, source: MemorySource, embedder: WordEmbedder
) -> None:
    source.put(ANA, *(turn(i, f"piano number {i} of many words") for i in range(1, 4001)))
    source.embed(ANA, embedder)
    beats = 0
    task = asyncio.create_task(search(index, ANA, "piano 77"))
    while not task.done():
        beats += 1
        await asyncio.sleep(0)
    assert (await task).ranked[0].item_id == "s:77"
    assert beats > 100


async def test_a_cancelled_search_leaves_a_whole_corpus_behind(
    index: ExactIndex, source: MemorySource, embedder: WordEmbedder
) -> None:
    source.put(ANA, *(turn(i, f"piano number {i}") for i in range(1, 2001)))
    source.embed(ANA, embedder)
    for turns in range(1, 12):
        index.residents.drop(ANA)
        task = asyncio.create_task(search(index, ANA, "piano 7"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await found(index, ANA, "piano 1999"))[0] == "s:1999"


async def test_a_paraphrase_is_found_by_meaning(
    source: MemorySource, minilm: MiniLmEmbedder
) -> None:
    said = [
        "My daughter was born in the spring",
        "The invoice is due on Friday",
        "I broke my leg while skiing",
        "We repainted the kitchen yellow",
    ]
    items = [turn(1, text, session=f"s{i}") for i, text in enumerate(said)]
    vectors = await minilm.embed([embedding_text(item) for item in items])
    source.put(ANA, *(replace(i, vector=v) for i, v in zip(items, vectors, strict=True)))
    index = ExactIndex(source, minilm)
    assert (await found(index, ANA, "Any sports injuries?"))[0] == "s2:1"
    assert (await found(index, ANA, "What colour are the walls at home?"))[0] == "s3:1"


async def test_yesterday_is_the_day_before_the_clocks(
    source: MemorySource, embedder: WordEmbedder
) -> None:
    later = replace(turn(1, "We talked", "t"), time=datetime(2024, 3, 9, 8, tzinfo=UTC))
    source.put(ANA, turn(1, "We talked"), later)
    for day, first in ((5, "s:1"), (10, "t:1")):
        now = datetime(2024, 3, day, 12, tzinfo=UTC)
        index = ExactIndex(source, embedder, clock=lambda now=now: now)
        assert (await found(index, ANA, "What did we do yesterday?"))[0] == first
