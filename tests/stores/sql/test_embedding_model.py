"""A change of the embedding model: everything is embedded anew, and nothing is mixed."""

from datetime import timedelta

import numpy as np
import pytest
from tests.stores.sql.support import ADA

from recollect_server.memory.model import NewFact
from recollect_server.scope import Scope
from recollect_server.stores.sql import embedding_model

OLD, NEW = "old-model", "new-model"


async def _embed(stores, model: str, tasks: int = 1000, size: int = 4) -> int:
    """Do an embedding worker's part; return how many texts that were."""
    done = 0
    while tasks and (task := await stores.queue.lease_embedding(model, size)):
        tasks -= 1
        done += len(task.items)
        vectors = np.full((len(task.items), 4), 0.5, np.float32)
        await stores.queue.complete_embedding(task, model, vectors)
    return done


async def _vectors(stores, model: str, scope: Scope = ADA) -> int:
    """Return how many items have a vector of the model."""
    changes = await stores.source.index_changes(scope, 0, model)
    return sum(item.vector is not None for item in changes.upserts)


async def _fill(stores) -> int:
    """Embed six turns and two facts with the old model; return the revision of the writes."""
    await stores.queue.use_model(OLD)
    await stores.session()
    await stores.append(*"abcdef")
    written = await stores.facts.remember(ADA, [NewFact("one", "f1"), NewFact("two", "f2")], None)
    assert await _embed(stores, OLD) == 8
    return written.user_revision


async def test_all_that_another_model_embedded_is_embedded_anew(stores):
    written = await _fill(stores)
    await stores.queue.use_model(NEW)
    assert (await stores.queue.backlog()).checking
    assert (await stores.source.user_revision(ADA))[1] == 0
    assert await _vectors(stores, NEW) == 0
    assert await _embed(stores, NEW) == 8
    assert (await _vectors(stores, NEW), await _vectors(stores, OLD)) == (8, 0)
    revision, indexed = await stores.source.user_revision(ADA)
    assert revision == indexed >= written
    assert await _embed(stores, NEW) == 0


async def test_a_revision_is_indexed_only_when_all_up_to_it_has_the_new_vectors(stores):
    written = await _fill(stores)
    await stores.queue.use_model(NEW)
    for part in range(4):
        assert (await stores.source.user_revision(ADA))[1] < written, part
        await _embed(stores, NEW, tasks=1, size=2)
    assert (await stores.source.user_revision(ADA))[1] > written


async def test_the_backlog_tells_how_far_a_change_is(stores):
    await _fill(stores)
    assert (await stores.queue.backlog()).oldest_time is None
    await stores.queue.use_model(NEW)
    await _embed(stores, NEW, tasks=1, size=3)
    began = stores.clock()
    stores.clock.move(minutes=5)
    await stores.append("g")
    backlog = await stores.queue.backlog("acme")
    assert (backlog.waiting, backlog.reembedding, backlog.checking) == (6, 5, False)
    assert stores.clock() - began == timedelta(minutes=5)
    assert backlog.oldest_time == began
    assert (await stores.queue.backlog("other")).waiting == 0
    await _embed(stores, NEW)
    done = await stores.queue.backlog()
    assert (done.waiting, done.reembedding, done.oldest_time) == (0, 0, None)


@pytest.mark.parametrize("embedded_anew", [0, 3, 8])
async def test_switching_back_embeds_only_what_was_replaced(stores, embedded_anew):
    await _fill(stores)
    await stores.queue.use_model(NEW)
    for _ in range(embedded_anew or 1):
        await _embed(stores, NEW, tasks=1, size=1)
    replaced = await _vectors(stores, NEW)
    await stores.queue.use_model(OLD)
    assert await _embed(stores, OLD) == replaced
    assert (await _vectors(stores, OLD), await _vectors(stores, NEW)) == (8, 0)
    revision, indexed = await stores.source.user_revision(ADA)
    assert revision == indexed
    assert (await stores.queue.backlog()).waiting == 0


async def test_a_worker_of_the_former_model_stores_nothing_more(stores):
    await _fill(stores)
    await stores.append("late")
    task = await stores.queue.lease_embedding(OLD, 9)
    await stores.queue.use_model(NEW)
    await stores.queue.complete_embedding(task, OLD, np.full((1, 4), 0.5, np.float32))
    assert await stores.queue.lease_embedding(OLD, 9) is None
    assert await _embed(stores, NEW) == 9
    assert await _vectors(stores, NEW) == 9


async def test_a_check_of_the_users_goes_on_where_it_was_interrupted(stores, monkeypatch):
    monkeypatch.setattr(embedding_model, "USERS", 2)
    monkeypatch.setattr(embedding_model, "ITEMS", 2)
    await stores.queue.use_model(OLD)
    users = [Scope("acme", f"user {number}") for number in range(7)]
    for user in users:
        await stores.facts.remember(user, [NewFact(f"fact {n}") for n in range(5)], None)
    assert await _embed(stores, OLD, size=9) == 35
    await stores.queue.use_model(NEW)
    first = await stores.queue.lease_embedding(NEW, 9)
    assert (await stores.queue.backlog()).checking
    # That worker is gone. The next one begins with the users that were not checked yet.
    assert (await stores.queue.backlog()).reembedding == 10
    stores.clock.move(minutes=1)
    assert await _embed(stores, NEW, size=9) == 35
    assert len(first.items) == 5
    assert [await _vectors(stores, NEW, user) for user in users] == [5] * 7
    assert not (await stores.queue.backlog()).checking


async def test_using_the_same_model_again_checks_nothing(stores):
    await _fill(stores)
    await stores.queue.use_model(OLD)
    assert not (await stores.queue.backlog()).checking


async def test_a_change_revives_what_the_former_model_failed_on(stores):
    await stores.queue.use_model(OLD)
    await stores.session()
    await stores.append("a")
    task = await stores.queue.lease_embedding(OLD, 9)
    stores.clock.move(minutes=-10)
    await stores.queue.fail_embedding(task, "down", waits=True)
    await stores.queue.use_model(NEW)
    stores.clock.move(minutes=1)
    assert await _embed(stores, NEW) == 1


async def test_what_is_left_of_a_user_gives_way_to_the_next_users_work(stores):
    """A job whose texts are gone must not look like the end of the queue."""
    await stores.session()
    await stores.append("a")
    bob = Scope("acme", "bob")
    await stores.facts.remember(bob, [NewFact("b")], None)
    await stores.database.write(
        lambda tx: tx.execute("DELETE FROM messages WHERE user_key = 1 OR user_key <> 0")
    )
    task = await stores.queue.lease_embedding(NEW, 9)
    assert task is not None
    assert task.scope == bob
