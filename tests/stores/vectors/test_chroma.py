"""What Chroma alone is asked in its own way."""

import pytest
from tests.stores.vectors.setups import Opened, point, topical

from recollect_server.scope import Scope
from recollect_server.stores.chroma import store as chroma

pytestmark = pytest.mark.parametrize("place", ["chroma", "chroma-http"], indirect=True)

ADA, BOB = Scope("acme", "ada"), Scope("acme", "bob")


async def test_no_call_deletes_more_of_a_user_than_a_page(opened: Opened, monkeypatch):
    store = await opened.store(8)
    assert isinstance(store, chroma.ChromaStore)
    for scope, count in ((ADA, 25), (BOB, 5)):
        await store.upsert(scope, [point(n, row) for n, row in enumerate(topical(count, 8))])
    left = []
    run = store._run

    async def watched(call, *more):
        done = await run(call, *more)
        left.append(await run(lambda collection: collection.count()))
        return done

    monkeypatch.setattr(chroma, "BATCH", 10)
    monkeypatch.setattr(store, "_run", watched)
    await store.delete_user(ADA)
    assert max(before - after for before, after in zip([30, *left], left, strict=False)) == 10
    assert (await store.count(ADA), await store.count(BOB)) == (0, 5)
