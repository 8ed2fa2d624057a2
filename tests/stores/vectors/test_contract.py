"""What every vector store does."""

from datetime import timedelta

import numpy as np
import pytest
from tests.stores.vectors.setups import KINDS, START, Opened, point, topical, unit, within

from recollect_server.errors import Unavailable
from recollect_server.memory.model import MemoryKind
from recollect_server.models.minilm import Encoder
from recollect_server.scope import Scope

pytestmark = pytest.mark.parametrize("place", [*KINDS, "qdrant-wire"], indirect=True)

DIMENSIONS = 8
ADA, BOB = Scope("acme", "ada"), Scope("acme", "bob")
CITIES = ("Lisbon", "Porto", "Madrid", "Paris", "Rome", "Vienna", "Prague", "Oslo", "Riga", "Bern")
AXES = np.eye(DIMENSIONS, dtype=np.float32)


@pytest.fixture
async def store(opened: Opened):
    # A user without a row in SQL has nothing in a store either.
    for scope in (ADA, BOB, Scope("other", "ada")):
        await opened.stores.session(scope=scope)
    return await opened.store(DIMENSIONS)


async def _ids(store, scope, vector, filter=None, limit=10) -> list[str]:
    found = await store.search(scope, vector, filter or within(), limit)
    return [hit.item_id for hit in found]


async def test_the_nearest_come_first_with_their_cosine(store):
    rows = unit(np.array([AXES[0], AXES[0] + AXES[1], AXES[1], -AXES[0]]))
    await store.upsert(ADA, [point(n, row) for n, row in enumerate(rows)])
    found = await store.search(ADA, AXES[0], within(), 4)
    assert [hit.item_id for hit in found] == ["i0", "i1", "i2", "i3"]
    assert [hit.similarity for hit in found] == pytest.approx([1, 0.7071, 0, -1], abs=1e-3)
    assert await _ids(store, ADA, AXES[0], limit=2) == ["i0", "i1"]


async def test_an_item_unlike_all_others_is_found(opened: Opened):
    """Graphs lead to it by few edges, if by any; each is built anew and differently."""
    await opened.stores.session(scope=ADA)
    encoder = Encoder.bundled()
    texts = [
        "Has a red cat called Kim",
        *(f"Parcel {n} went to {CITIES[n % 10]}" for n in range(600)),
    ]
    rows = encoder.vectors(encoder.tokenise(texts))
    (asked,) = encoder.vectors(encoder.tokenise(["Which animal does she own?"]))
    for _ in range(3):
        store = await opened.store(rows.shape[1])
        await store.upsert(ADA, [point(n, row) for n, row in enumerate(rows)])
        assert "i0" in await _ids(store, ADA, asked, limit=200)


async def test_an_empty_scope_stays_empty(store):
    await store.upsert(ADA, [point(0, AXES[0])])
    assert await _ids(store, BOB, AXES[0]) == []
    assert await _ids(store, Scope("other", "ada"), AXES[0]) == []
    assert await _ids(store, Scope("acme", "nobody"), AXES[0]) == []
    assert await store.count(BOB) == 0


async def test_an_id_belongs_to_its_scope_and_kind(store):
    await store.upsert(ADA, [point(0, AXES[0], item_id="x")])
    await store.upsert(BOB, [point(0, AXES[1], item_id="x")])
    await store.upsert(ADA, [point(0, AXES[2], item_id="x", kind=MemoryKind.FACT)])
    assert (await store.count(ADA), await store.count(BOB)) == (2, 1)
    await store.delete(ADA, [(MemoryKind.TURN, "x")])
    assert (await store.count(ADA), await store.count(BOB)) == (1, 1)
    found = await store.search(ADA, AXES[0], within(), 10)
    assert [(hit.kind, hit.item_id) for hit in found] == [(MemoryKind.FACT, "x")]


async def test_a_repeat_changes_nothing_and_a_new_vector_replaces(store):
    for _ in range(2):
        await store.upsert(ADA, [point(0, AXES[0]), point(1, AXES[1])])
    assert await store.count(ADA) == 2
    await store.upsert(ADA, [point(0, AXES[2])])
    assert await _ids(store, ADA, AXES[2], limit=1) == ["i0"]
    assert await store.count(ADA) == 2


async def test_an_item_has_as_many_passages_as_were_given_last(store):
    three = [point(0, AXES[n], passage=n) for n in range(3)]
    await store.upsert(ADA, [*three, point(1, AXES[5])])
    found = await store.search(ADA, AXES[2], within(), 1)
    assert [(hit.item_id, hit.passage) for hit in found] == [("i0", 2)]
    await store.upsert(ADA, three[:1])
    assert await store.count(ADA) == 2
    await store.upsert(ADA, three)
    await store.delete(ADA, [(MemoryKind.TURN, "i0")])
    assert await _ids(store, ADA, AXES[0]) == ["i1"]


async def test_filters_run_before_the_nearest_are_picked(store):
    # What passes is the farthest of all, so a filter after the fact would find nothing.
    near = [point(n, unit(AXES[0] + 0.01 * AXES[n % 7])) for n in range(60)]
    far = [
        point(100, AXES[1], kind=MemoryKind.FACT, session=""),
        point(101, AXES[1], session="other"),
        point(5000, AXES[1]),
    ]
    await store.upsert(ADA, near + far)
    late = START + timedelta(minutes=5000)
    assert await _ids(store, ADA, AXES[0], within(MemoryKind.FACT), 5) == ["i100"]
    assert await _ids(store, ADA, AXES[0], within(session_ids=frozenset({"other"})), 5) == ["i101"]
    assert await _ids(store, ADA, AXES[0], within(start=late), 5) == ["i5000"]
    assert await _ids(store, ADA, AXES[0], within(start=late + timedelta(seconds=1)), 5) == []
    before = within(start=START + timedelta(minutes=100), end=START + timedelta(minutes=101))
    assert await _ids(store, ADA, AXES[0], before, 5) == ["i100"]
    none = within(MemoryKind.EPISODE, session_ids=frozenset({"other"}))
    assert await _ids(store, ADA, AXES[0], none, 5) == []


async def test_deleting_a_user_leaves_the_others(store):
    for scope in (ADA, BOB):
        await store.upsert(scope, [point(n, row) for n, row in enumerate(topical(120, DIMENSIONS))])
    await store.delete_user(ADA)
    assert (await store.count(ADA), await store.count(BOB)) == (0, 120)
    assert await _ids(store, ADA, AXES[0]) == []
    await store.delete_user(ADA)


async def test_deleting_what_is_not_there_is_nothing(store):
    await store.delete(ADA, [(MemoryKind.FACT, "nothing")])
    await store.delete(ADA, [])
    await store.upsert(ADA, [])
    assert await store.count(ADA) == 0


async def test_a_store_is_made_once_and_dropped_for_good(opened: Opened):
    store = await opened.store(DIMENSIONS, "recollect_once")
    await store.create()
    assert await store.exists()
    await opened.stores.session(scope=ADA)
    await store.upsert(ADA, [point(0, AXES[0])])
    await store.drop()
    assert not await store.exists()
    with pytest.raises(Unavailable):
        await store.upsert(ADA, [point(0, AXES[0])])
    assert not await store.exists()
    await store.create()
    assert await store.count(ADA) == 0
