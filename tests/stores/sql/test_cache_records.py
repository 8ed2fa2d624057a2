"""What is kept of the answer cache in SQL."""

import numpy as np
import pytest
from tests.stores.sql.support import ADA, Stores

from recollect_server.cache.model import CacheScope, Feedback, Partition, Verdict
from recollect_server.scope import Scope
from recollect_server.stores.sql.cache_records import SqlCacheRecords

USER = Partition(ADA, CacheScope.USER, "")
SESSION = Partition(ADA, CacheScope.SESSION, "s")
OTHERS = [
    SESSION,
    Partition(ADA, CacheScope.SESSION, "t"),
    Partition(Scope("acme", "eve"), CacheScope.USER, ""),
    Partition(Scope("other", "ada"), CacheScope.USER, ""),
    Partition(Scope("acme", ""), CacheScope.GLOBAL, ""),
]
VECTOR = np.array([0.6, 0.8], np.float32)


@pytest.fixture
def records(stores: Stores) -> SqlCacheRecords:
    return SqlCacheRecords(stores.database, stores.clock)


def _said(verdict: Verdict, question: str = "q", answer: str = "a") -> Feedback:
    return Feedback("id", question, answer, verdict, 0.99, VECTOR, "m")


async def test_a_wrong_answer_is_remembered_for_its_question_and_partition(records, other):
    await records.report(USER, _said(Verdict.WRONG))
    await records.report(USER, _said(Verdict.RIGHT, question="r"))
    (stone,) = await SqlCacheRecords(other.database, other.clock).tombstones(USER, "a")
    assert (stone.question, stone.vector_model) == ("q", "m")
    assert np.allclose(stone.vector, VECTOR, atol=1e-3)
    assert await records.tombstones(USER, "b") == ()
    for partition in OTHERS:
        assert await records.tombstones(partition, "a") == ()


async def test_wrong_stays_wrong_and_is_counted_once(records):
    for verdict in (Verdict.RIGHT, Verdict.WRONG, Verdict.WRONG, Verdict.RIGHT):
        await records.report(USER, _said(verdict))
    await records.report(USER, Feedback("id", "z", "a", Verdict.RIGHT, None, None, ""))
    assert await records.verdicts(USER) == {Verdict.WRONG: 1, Verdict.RIGHT: 1}
    assert await records.verdicts(SESSION) == {}


async def test_a_tombstone_without_a_vector_is_kept(records):
    await records.report(USER, Feedback("id", "q", "a", Verdict.WRONG, None, None, ""))
    (stone,) = await records.tombstones(USER, "a")
    assert (stone.question, stone.vector) == ("q", None)


async def test_counts_add_up_over_processes_and_are_kept_apart(records, other):
    again = SqlCacheRecords(other.database, other.clock)
    await records.add({USER: {"hits": 2, "none": 0}, SESSION: {"hits": 5}})
    await again.add({USER: {"hits": 3, "misses": 1}})
    assert await records.counts(USER) == {"hits": 5, "misses": 1}
    assert await records.counts(SESSION) == {"hits": 5}
    for partition in OTHERS[1:]:
        assert await records.counts(partition) == {}


async def test_erasing_takes_all_of_an_owner_and_nothing_else(records):
    for partition in (USER, *OTHERS):
        await records.add({partition: {"hits": 1}})
        await records.report(partition, _said(Verdict.WRONG))
    await records.erase(ADA)
    for partition in (USER, *OTHERS):
        left = {} if partition.owner == ADA else {"hits": 1}
        assert await records.counts(partition) == left
        assert len(await records.tombstones(partition, "a")) == len(left)
