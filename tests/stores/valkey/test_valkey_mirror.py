"""The copies of vectors in this process: bounded, loaded again, never of another embedder."""

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from tests.stores.valkey.answer_makers import DIMENSIONS, Clock, answer_of, unit
from tests.stores.valkey.setups import start_valkey
from tests.stores.valkey.valkey_server import Server, client_of

from recollect_server.scope import Scope
from recollect_server.stores.valkey.answers import Limits, ValkeyAnswers
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.mirror import ENTRY_BYTES, Mirror

ONE = DIMENSIONS + ENTRY_BYTES
"""Bytes of an entry's copy."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = start_valkey()
    yield made
    made.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with client_of(server.url("valkey")) as opened:
        yield opened


def _store(client: Client, mirror: Mirror) -> ValkeyAnswers:
    return ValkeyAnswers(client, client, mirror, limits=Limits(), clock=Clock())


async def _found(store: ValkeyAnswers, owner: Scope, vector: np.ndarray) -> list[str]:
    await store.prepare(owner)
    return list(await store.nearest(owner, answer_of(owner, 0).group, vector, 4))


async def test_the_least_recently_used_copies_go_and_come_back(client: Client, scope: Scope):
    mirror = Mirror(client, budget=12 * ONE)
    store = _store(client, mirror)
    owners = [Scope(scope.tenant, f"user {n}") for n in range(5)]
    for owner in owners:
        for number in range(4):
            await store.put(owner, answer_of(owner, number, unit(1, number)))
    for owner in (*owners, *owners):
        nearest = answer_of(owner, 2).entry.entry_id
        assert (await _found(store, owner, unit(1, 2)))[0] == nearest
        assert 0 < mirror.nbytes <= 12 * ONE
    assert mirror.nbytes > 4 * ONE


async def test_a_copy_alone_may_be_larger_than_the_budget(client: Client, scope: Scope):
    mirror = Mirror(client, budget=ONE)
    store = _store(client, mirror)
    for number in range(4):
        await store.put(scope, answer_of(scope, number, unit(1, number)))
    assert len(await _found(store, scope, unit(1))) == 4
    assert mirror.nbytes >= 4 * ONE


async def test_who_has_no_entries_takes_no_memory(client: Client, scope: Scope):
    mirror = Mirror(client)
    assert await _found(_store(client, mirror), scope, unit(1)) == []
    assert mirror.nbytes == 0


async def test_vectors_of_another_length_are_not_compared(client: Client, scope: Scope):
    mirror = Mirror(client)
    store = _store(client, mirror)
    old = answer_of(scope, 1, unit(1))
    await store.put(scope, old)
    assert await _found(store, scope, unit(1)) == [old.entry.entry_id]
    longer = np.zeros(2 * DIMENSIONS, np.float32)
    longer[0] = 1
    new = answer_of(scope, 2, longer)
    await store.put(scope, new)
    assert await _found(store, scope, longer) == [new.entry.entry_id]
    assert await _found(store, scope, unit(1)) == []
    assert await _found(_store(client, Mirror(client)), scope, longer) == [new.entry.entry_id]


async def test_a_vector_keeps_its_direction_at_a_byte_a_number(client: Client):
    random = np.random.default_rng(3)
    for _ in range(20):
        vector = random.normal(size=1152).astype(np.float32)
        vector /= np.linalg.norm(vector)
        data = Mirror(client).register_vector(vector)
        assert len(data) == 1156
        again = np.frombuffer(data, np.int8, offset=4) * np.frombuffer(data, np.float32, 1)
        assert float(again @ vector) == pytest.approx(1, abs=1e-3)
