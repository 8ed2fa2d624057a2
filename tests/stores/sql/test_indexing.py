"""What indexes load, and the outbox of texts to embed."""

import numpy as np
import pytest
from tests.stores.sql.support import ADA, MODEL

from recollect_server.memory.model import MemoryKind, NewFact
from recollect_server.scope import Scope
from recollect_server.stores.sql import jobs


def _vectors(count: int) -> np.ndarray:
    rows = np.eye(count, 8, dtype=np.float32)
    rows[:, 7] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def _embed_all(stores, model: str = MODEL) -> int:
    done = 0
    while task := await stores.queue.lease_embedding(model, 2):
        done += len(task.items)
        await stores.queue.complete_embedding(task, model, _vectors(len(task.items)))
    return done


async def test_everything_is_queued_and_indexed_once_it_has_vectors(stores):
    await stores.session()
    await stores.append("a", "b", "c")
    remembered = await stores.facts.remember(ADA, [NewFact("f", "f1")], None)
    assert await stores.source.user_revision(ADA) == (remembered.user_revision, 1)
    assert await _embed_all(stores) == 4
    revision, indexed = await stores.source.user_revision(ADA)
    assert revision == indexed > remembered.user_revision
    changes = await stores.source.index_changes(ADA, 0, MODEL)
    assert changes.complete
    assert sorted(i.text for i in changes.upserts) == ["a", "b", "c", "f"]
    assert all(
        i.vector is not None and np.isclose(np.linalg.norm(i.vector), 1) for i in changes.upserts
    )


async def test_changes_are_only_what_changed(stores):
    await stores.session()
    await stores.append("a")
    await _embed_all(stores)
    seen = (await stores.source.index_changes(ADA, 0, MODEL)).revision
    assert (await stores.source.index_changes(ADA, seen, MODEL)).upserts == ()
    await stores.append("b")
    fresh = await stores.source.index_changes(ADA, seen, MODEL)
    assert [(i.text, i.vector) for i in fresh.upserts] == [("b", None)]
    assert not fresh.complete
    await _embed_all(stores)
    embedded = await stores.source.index_changes(ADA, fresh.revision, MODEL)
    assert [i.text for i in embedded.upserts] == ["b"]
    assert embedded.upserts[0].vector is not None
    assert embedded.indexed_revision == embedded.revision


async def test_a_fact_forgotten_and_given_again_is_there(stores):
    await stores.facts.remember(ADA, [NewFact("old", "f")], None)
    seen = (await stores.source.index_changes(ADA, 0, MODEL)).revision
    await stores.facts.forget_fact(ADA, "f")
    assert (await stores.source.index_changes(ADA, seen, MODEL)).deletes == (
        (MemoryKind.FACT, "f"),
    )
    await stores.facts.remember(ADA, [NewFact("new", "f")], None)
    changes = await stores.source.index_changes(ADA, seen, MODEL)
    assert ([i.text for i in changes.upserts], changes.deletes) == (["new"], ())


async def test_a_fact_that_no_longer_holds_is_not_given(stores):
    await stores.facts.remember(ADA, [NewFact("a", "f"), NewFact("b", "g")], None)
    seen = (await stores.source.index_changes(ADA, 0, MODEL)).revision
    stores.clock.move(days=1)
    await stores.facts.update_fact(ADA, "f", {"valid_to": stores.clock()})
    changes = await stores.source.index_changes(ADA, seen, MODEL)
    assert (changes.upserts, changes.deletes) == ((), ((MemoryKind.FACT, "f"),))
    whole = await stores.source.index_changes(ADA, 0, MODEL)
    assert [item.item_id for item in whole.upserts] == ["g"]


async def test_vectors_of_another_model_are_not_given(stores):
    await stores.session()
    await stores.append("a")
    await _embed_all(stores, "old-model")
    changes = await stores.source.index_changes(ADA, 0, MODEL)
    assert [i.vector for i in changes.upserts] == [None]


async def test_a_message_without_words_waits_for_nothing(stores):
    await stores.session()
    await stores.append("")
    revision, indexed = await stores.source.user_revision(ADA)
    assert revision == indexed
    assert await stores.queue.lease_embedding(MODEL, 8) is None


async def test_a_leased_job_is_not_given_twice_until_its_lease_ends(stores):
    await stores.session()
    await stores.append("a")
    first = await stores.queue.lease_embedding(MODEL, 8)
    assert await stores.queue.lease_embedding(MODEL, 8) is None
    stores.clock.move(seconds=jobs.LEASE_SECONDS + 1)
    second = await stores.queue.lease_embedding(MODEL, 8)
    assert second.lease > first.lease
    before = await stores.source.user_revision(ADA)
    await stores.queue.complete_embedding(first, MODEL, _vectors(1))
    await stores.queue.fail_embedding(first, "late", waits=False)
    assert await stores.source.user_revision(ADA) == before
    await stores.queue.complete_embedding(second, MODEL, _vectors(1))
    revision, indexed = await stores.source.user_revision(ADA)
    assert revision == indexed


async def test_text_that_comes_while_a_job_runs_is_embedded_after_it(stores):
    await stores.session()
    await stores.append("a")
    task = await stores.queue.lease_embedding(MODEL, 8)
    await stores.append("b")
    await stores.queue.complete_embedding(task, MODEL, _vectors(1))
    again = await stores.queue.lease_embedding(MODEL, 8)
    assert [i.text for i in again.items] == ["b"]


async def test_what_was_deleted_or_changed_meanwhile_gets_no_stale_vector(stores):
    await stores.session()
    await stores.append("a")
    await stores.facts.remember(ADA, [NewFact("old", "f")], None)
    task = await stores.queue.lease_embedding(MODEL, 8)
    assert len(task.items) == 2
    await stores.sessions.delete_session(ADA, "s")
    await stores.facts.update_fact(ADA, "f", {"text": "new"})
    await stores.queue.complete_embedding(task, MODEL, _vectors(2))
    changes = await stores.source.index_changes(ADA, 0, MODEL)
    assert [(i.text, i.vector) for i in changes.upserts] == [("new", None)]
    assert await _embed_all(stores) == 1


async def test_failures_wait_longer_and_end_as_a_dead_letter_that_new_text_revives(stores):
    await stores.session()
    await stores.append("a")
    for _ in range(jobs.MAX_ATTEMPTS):
        task = await stores.queue.lease_embedding(MODEL, 8)
        await stores.queue.fail_embedding(task, "rubbish", waits=False)
        assert await stores.queue.lease_embedding(MODEL, 8) is None
        stores.clock.move(seconds=jobs.LONGEST_RETRY_SECONDS * (1 + jobs.JITTER))
    rows = await stores.database.read(
        lambda tx: tx.execute("SELECT state, attempts, last_error FROM jobs")
    )
    assert rows == [("dead", jobs.MAX_ATTEMPTS, "rubbish")]
    stores.clock.move(days=1)
    assert await stores.queue.lease_embedding(MODEL, 8) is None
    await stores.append("b")
    assert await _embed_all(stores) == 2


async def test_an_outage_uses_up_no_attempt_and_pauses_grow_with_its_age(stores):
    await stores.session()
    await stores.append("a")
    for _ in range(3 * jobs.MAX_ATTEMPTS):
        task = await stores.queue.lease_embedding(MODEL, 8)
        await stores.queue.fail_embedding(task, "model down", waits=True)
        assert await stores.queue.lease_embedding(MODEL, 8) is None
        stores.clock.move(seconds=jobs.LONGEST_WAIT_SECONDS * (1 + jobs.JITTER))
    found = await stores.jobs.list_jobs("acme", state=None, limit=10, after=None)
    assert [(j.state.name, j.attempts, j.last_error) for j in found] == [("DUE", 0, "model down")]
    assert await _embed_all(stores) == 1


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_a_task_holds_at_most_its_limit(stores, limit):
    await stores.session()
    await stores.append(*"abcde")
    task = await stores.queue.lease_embedding(MODEL, limit)
    assert len(task.items) == min(limit, 5)


async def test_texts_that_somebody_waits_for_are_given_out_first(stores):
    users = [Scope("acme", f"user {number}") for number in range(5)]
    for user in users:
        await stores.facts.remember(user, [NewFact("a"), NewFact("b")], None)
        stores.clock.move(seconds=1)
    assert not await stores.queue.somebody_waits()
    await stores.source.hurry(users[3])
    assert await stores.queue.somebody_waits()
    assert (await stores.queue.lease_embedding(MODEL, 8)).scope == users[3]
    assert not await stores.queue.somebody_waits()
    assert (await stores.queue.lease_embedding(MODEL, 8)).scope == users[0]


async def test_waiting_for_texts_does_not_cut_an_outage_short(stores):
    await stores.session()
    await stores.append("a")
    task = await stores.queue.lease_embedding(MODEL, 8)
    await stores.source.hurry(ADA)
    await stores.queue.fail_embedding(task, "down", waits=True)
    await stores.source.hurry(ADA)
    await stores.source.hurry(Scope("acme", "nobody"))
    assert await stores.queue.lease_embedding(MODEL, 8) is None
    assert not await stores.queue.somebody_waits()
