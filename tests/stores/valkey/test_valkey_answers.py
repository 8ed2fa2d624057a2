"""The store of answers as its port promises it, with a search module and without."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
import pytest_asyncio
from msgspec.structs import replace
from structlog.testing import capture_logs
from tests.stores.valkey.answer_makers import (
    DIMENSIONS,
    NOW,
    Clock,
    answer_of,
    partition_of,
    unit,
)
from tests.stores.valkey.setups import ON_MANY, ON_ONE, ON_SEARCH, AnyServer, Setup, named
from tests.stores.valkey.valkey_cluster import Cluster
from tests.stores.valkey.valkey_server import client_of, eventually

from recollect_server.cache.model import CacheScope, StoredAnswer
from recollect_server.cache.ports import Selector
from recollect_server.errors import Unavailable
from recollect_server.scope import Scope
from recollect_server.stores.valkey._cluster import key_slot
from recollect_server.stores.valkey.answers import Limits, ValkeyAnswers
from recollect_server.stores.valkey.connect import Client, connect
from recollect_server.stores.valkey.entry_codec import encode_entry
from recollect_server.stores.valkey.keys import entry_key, register_key, registers_key
from recollect_server.stores.valkey.register import GLOBAL_SHARDS, tag_of, tags_of
from recollect_server.stores.valkey.sweeper import RegisterSweeper
from recollect_server.stores.valkey_search import BestIndex


@pytest.fixture(params=named(ON_ONE + ON_MANY + ON_SEARCH))
def setup(request: pytest.FixtureRequest) -> Setup:
    chosen: Setup = request.param
    return chosen


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., ValkeyAnswers]


@pytest.fixture
def open_store(client: Client, clock: Clock, setup: Setup) -> Open:
    """Open the store as a process of its own would."""

    def make(limits: Limits | None = None, client: Client = client) -> ValkeyAnswers:
        index = BestIndex(client, client, DIMENSIONS, 1 << 20)
        return ValkeyAnswers(client, client, index, limits=limits or Limits(), clock=clock)

    return make


@pytest_asyncio.fixture
async def store(open_store: Open) -> ValkeyAnswers:
    return open_store()


@pytest.fixture
def owner(scope: Scope) -> Scope:
    return scope


@pytest.fixture
def everyone(scope: Scope) -> Scope:
    """The owner of GLOBAL answers."""
    return Scope(scope.tenant, "")


async def near(store: ValkeyAnswers, owner: Scope, group: str, vector, limit: int = 4):
    """Return the nearest entries' ids after a round of forgetting, as a lookup does."""
    await store.prepare(owner)
    ids = await store.nearest(owner, group, vector, limit)
    gone = [
        name
        for name, found in zip(ids, await store.get_many(owner.tenant, ids), strict=True)
        if found is None
    ]
    await store.forget(owner, gone)
    return list(await store.nearest(owner, group, vector, limit))


def ids_of(*answers: StoredAnswer) -> list[str]:
    return [answer.entry.entry_id for answer in answers]


async def test_the_index_is_the_one_that_the_server_allows(client: Client, setup: Setup) -> None:
    index = BestIndex(client, client, DIMENSIONS, 1 << 20)
    await index.open()
    assert index.kind == ("search" if setup.name == "search" else "mirror")


async def test_an_answer_comes_back_equal(store: ValkeyAnswers, owner: Scope) -> None:
    answer = answer_of(owner, 1, unit(1, 2), tags=("a", "b"), facts=("f",))
    assert await store.get(owner.tenant, answer.entry.entry_id) is None
    await store.put(owner, answer)
    assert await store.get(owner.tenant, answer.entry.entry_id) == answer.entry
    assert await store.get(f"{owner.tenant} ", answer.entry.entry_id) is None
    found, none = await store.get_many(owner.tenant, [*ids_of(answer), "0e" * 32])
    assert none is None
    assert found is not None
    assert answer.conversation is not None
    assert found.conversation is not None
    assert found.conversation.texts == answer.conversation.texts
    assert found.conversation.roles == answer.conversation.roles
    assert found.conversation.model == "m"
    assert np.allclose(found.conversation.vectors, answer.conversation.vectors, atol=1e-3)
    assert replace(found, conversation=None) == replace(answer, conversation=None, candidate=None)


async def test_an_answer_replaces_an_older_one_whole(store: ValkeyAnswers, owner: Scope) -> None:
    await store.put(owner, answer_of(owner, 1, unit(1), tags=("old",)))
    plain = answer_of(owner, 1, text="no")
    await store.put(owner, plain)
    assert await store.get_many(owner.tenant, ids_of(plain)) == (plain,)
    assert await store.find(owner, Selector(tag="old")) == ()
    assert await store.size(partition_of(plain, owner)) == (1, pytest.approx(500, abs=400))
    assert await near(store, owner, plain.group, unit(1)) == []


async def test_removed_answers_are_found_by_nothing(store: ValkeyAnswers, owner: Scope) -> None:
    first, second = (answer_of(owner, n, unit(1, n), tags=("t",)) for n in (1, 2))
    for answer in (first, second):
        await store.put(owner, answer)
    await store.prepare(owner)
    await store.remove(owner, ids_of(first))
    await store.remove(owner, ids_of(first))
    assert await store.get(owner.tenant, first.entry.entry_id) is None
    assert await store.find(owner, Selector(tag="t")) == tuple(ids_of(second))
    assert await near(store, owner, first.group, unit(1, 1)) == ids_of(second)
    assert await store.same(owner, first.same) is None
    assert (await store.size(partition_of(first, owner)))[0] == 1


async def test_answers_are_found_by_partition_tag_and_fact_of_their_owner(
    store: ValkeyAnswers, owner: Scope
) -> None:
    eve = Scope(owner.tenant, f"{owner.user_id}x")
    mine = answer_of(owner, 1, tags=("a,b|", "c"), facts=("f1", "f2"))
    other = answer_of(owner, 2, scope=CacheScope.SESSION, session_id="s", tags=("a",))
    await store.put(owner, mine)
    await store.put(owner, other)
    await store.put(eve, answer_of(eve, 3, tags=("c",), facts=("f1",)))

    async def found(selector: Selector) -> set[str]:
        return set(await store.find(owner, selector))

    assert await found(Selector()) == {*ids_of(mine, other)}
    assert await found(Selector(partition_of(mine, owner))) == {*ids_of(mine)}
    assert await found(Selector(partition_of(other, owner))) == {*ids_of(other)}
    assert await found(Selector(tag="c")) == {*ids_of(mine)}
    assert await found(Selector(tag="a,b|")) == {*ids_of(mine)}
    assert await found(Selector(tag="a")) == {*ids_of(other)}
    assert await found(Selector(fact_id="f2")) == {*ids_of(mine)}
    assert await found(Selector(fact_id="a")) == set()
    assert await found(Selector(partition_of(other, owner), tag="c")) == set()


async def test_the_same_prompt_of_another_model_is_found(
    store: ValkeyAnswers, owner: Scope
) -> None:
    answer = answer_of(owner, 1)
    await store.put(owner, answer)
    assert await store.same(owner, answer.same) == answer.entry.entry_id
    assert await store.same(owner, answer.question) is None


@pytest.mark.parametrize("shared", [False, True], ids=["user", "everyone"])
async def test_pages_give_every_entry_once_newest_first(
    store: ValkeyAnswers, owner: Scope, everyone: Scope, shared: bool
) -> None:
    who, scope = (everyone, CacheScope.GLOBAL) if shared else (owner, CacheScope.USER)
    answers = [answer_of(who, n, scope=scope) for n in range(25)]
    for answer in answers:
        await store.put(who, answer)
    if not shared:
        await store.put(who, answer_of(who, 99, scope=CacheScope.SESSION, session_id="s"))
    listed: list[str] = []
    after = None
    while page := await store.page(partition_of(answers[0], who), limit=7, after=after):
        assert len(page) <= 7
        listed += [name for _, name in page]
        after = page[-1]
    assert listed == ids_of(*reversed(answers))


async def test_the_nearest_of_a_group_come_first(store: ValkeyAnswers, owner: Scope) -> None:
    near_one, middle, far = (answer_of(owner, n, unit(1, n * n)) for n in (0, 1, 2))
    other = answer_of(owner, 7, unit(1), topic="other")
    silent = answer_of(owner, 8)
    for answer in (middle, far, near_one, other, silent):
        await store.put(owner, answer)
    assert await near(store, owner, near_one.group, unit(1)) == ids_of(near_one, middle, far)
    assert await near(store, owner, near_one.model_group, unit(1), 2) == ids_of(near_one, middle)
    assert await near(store, owner, near_one.group, unit(1, 5), 1) == ids_of(far)
    assert await near(store, owner, other.group, unit(1)) == ids_of(other)
    assert await near(store, owner, "00" * 32, unit(1)) == []
    eve = Scope(owner.tenant, f"{owner.user_id}x")
    await store.prepare(eve)


async def test_what_another_process_stores_is_found(open_store: Open, owner: Scope) -> None:
    one, other = open_store(), open_store()
    first, second = (answer_of(owner, n, unit(1, n)) for n in (1, 2))
    await one.put(owner, first)
    assert await near(other, owner, first.group, unit(1, 1)) == ids_of(first)
    await one.put(owner, second)
    assert await near(other, owner, first.group, unit(1, 2)) == ids_of(second, first)
    await other.remove(owner, ids_of(second))
    assert await near(one, owner, first.group, unit(1, 2)) == ids_of(first)


async def test_many_answers_are_found_among_all(store: ValkeyAnswers, everyone: Scope) -> None:
    random = np.random.default_rng(5)
    vectors = random.normal(size=(300, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    answers = [
        answer_of(everyone, n, vectors[n], scope=CacheScope.GLOBAL) for n in range(len(vectors))
    ]
    for answer in answers:
        await store.put(everyone, answer)
    group = answers[0].group
    for asked in (3, 77, 299):
        assert (await near(store, everyone, group, vectors[asked]))[0] == ids_of(answers[asked])[0]
        best = np.argsort(-(vectors @ vectors[asked]))[:4]
        # A graph or a byte a number may change places among the last.
        assert len({*await near(store, everyone, group, vectors[asked])} & {
            *ids_of(*(answers[n] for n in best))
        }) >= 3  # fmt: skip


async def test_the_least_recently_used_go_beyond_the_limits(open_store: Open, owner: Scope) -> None:
    store = open_store(Limits(entries=3))
    answers = [answer_of(owner, n, unit(1, n)) for n in range(5)]
    for answer in answers[:3]:
        await store.put(owner, answer)
    last_use = tag_of(owner, answers[0].entry.entry_id)

    async def used_after() -> bool:
        await store.used(owner, ids_of(answers[0]))
        client = store._patient
        key = register_key(last_use, "u")
        scores = [await client.command(key, "ZSCORE", key, n) for n in ids_of(*answers[:3])]
        return float(scores[0]) > max(map(float, scores[1:]))

    await eventually(used_after)
    await store.put(owner, answers[3])
    await store.put(owner, answers[4])
    left = await store.get_many(owner.tenant, ids_of(*answers))
    assert [found is not None for found in left] == [True, False, False, True, True]
    found = await near(store, owner, answers[0].group, unit(1, 1), 9)
    assert {*found} == {*ids_of(answers[0], answers[3], answers[4])}


async def test_bytes_are_bounded_and_the_newest_stays(open_store: Open, owner: Scope) -> None:
    store = open_store(Limits(bytes=10_000))
    for number in range(4):
        await store.put(owner, answer_of(owner, number, text="x" * 4000))
    found = await store.find(owner, Selector())
    assert len(found) == 2
    large = answer_of(owner, 9, text="x" * 20_000)
    await store.put(owner, large)
    assert await store.find(owner, Selector()) == tuple(ids_of(large))
    assert (await store.size(partition_of(large, owner)))[1] > 20_000


async def test_entries_end_at_their_time(
    store: ValkeyAnswers, owner: Scope, client: Client, shared_server: AnyServer
) -> None:
    lasting = answer_of(owner, 1, unit(1))
    brief = answer_of(owner, 2, unit(1), ttl=timedelta(milliseconds=40), tags=("t",))
    await store.put(owner, lasting)
    await store.put(owner, brief)
    key = entry_key(owner.tenant, lasting.entry.entry_id)
    left = int(await client.command(key, "PTTL", key))
    assert 0 < left - 30 * 60_000 <= 60_000

    async def gone() -> bool:
        return await store.find(owner, Selector(tag="t")) == ()

    await eventually(gone)
    assert (await store.size(partition_of(brief, owner)))[0] == 1


async def test_an_entry_whose_time_is_over_only_removes_the_older_one(
    store: ValkeyAnswers, owner: Scope, clock: Clock
) -> None:
    answer = answer_of(owner, 1, unit(1))
    await store.put(owner, answer)
    clock.now = NOW + timedelta(hours=1)
    await store.put(owner, answer)
    assert await store.get(owner.tenant, answer.entry.entry_id) is None
    assert await store.find(owner, Selector()) == ()


async def test_empty_registers_are_swept_away(
    store: ValkeyAnswers, owner: Scope, client: Client
) -> None:
    answer = answer_of(owner, 1, unit(1), ttl=timedelta(milliseconds=40))
    await store.put(owner, answer)
    (tag,) = tags_of(owner)
    key, rows = registers_key(tag), register_key(tag, "r")
    sweeper = RegisterSweeper(client)

    async def swept() -> bool:
        await sweeper.sweep(key)
        return not await client.command(key, "ZSCORE", key, tag)

    await eventually(swept)
    for part in ("r", "n", "u", "e", "x", "s", "m"):
        rows = register_key(tag, part)
        assert not await client.command(rows, "EXISTS", rows)
    lasting = answer_of(owner, 2, unit(1))
    await store.put(owner, lasting)
    await sweeper.sweep(key)
    assert lasting.entry.entry_id in await near(store, owner, lasting.group, unit(1))


CORRUPT = {
    "nothing": b"",
    "another version": b"\x01hello",
    "cut": None,
}


@pytest.mark.parametrize("value", CORRUPT.values(), ids=CORRUPT)
async def test_a_corrupt_entry_is_logged_removed_and_a_miss(
    store: ValkeyAnswers, owner: Scope, client: Client, value: bytes | None
) -> None:
    answer = answer_of(owner, 1, unit(1))
    name = answer.entry.entry_id
    key = entry_key(owner.tenant, name)
    for field in ("v", "c"):
        await store.put(owner, answer)
        data = encode_entry(answer.entry)[:-1] if value is None else value
        await client.command(key, "HSET", key, field, data)
        with capture_logs() as logs:
            assert await store.get_many(owner.tenant, [name]) == (None,)
        assert [(log["event"], log["key"]) for log in logs] == [
            ("corrupt cache entry removed", key)
        ]
        assert not await client.command(key, "EXISTS", key)
        assert await near(store, owner, answer.group, unit(1)) == []


async def test_another_entry_is_not_returned_for_the_one_that_was_asked_for(
    store: ValkeyAnswers, owner: Scope, client: Client
) -> None:
    one, other = answer_of(owner, 1, unit(1)), answer_of(owner, 2, unit(2))
    name = one.entry.entry_id
    key = entry_key(owner.tenant, name)
    for ask in (store.get(owner.tenant, name), store.get_many(owner.tenant, [name])):
        await store.put(owner, one)
        await client.command(key, "HSET", key, "v", encode_entry(other.entry))
        assert await ask in (None, (None,))
        assert not await client.command(key, "EXISTS", key)


@pytest.mark.parametrize("setup", named(ON_ONE[:1]), indirect=True)
async def test_an_entry_that_may_not_be_read_is_not_corrupt(
    make_server: Callable[..., AnyServer], clock: Clock, owner: Scope, scheme: str
) -> None:
    server = make_server()
    async with client_of(server.url(scheme)) as client:
        index = BestIndex(client, client, DIMENSIONS, 1 << 20)
        store = ValkeyAnswers(client, client, index, limits=Limits(), clock=clock)
        answer = answer_of(owner, 1)
        await store.put(owner, answer)
        entry_id = answer.entry.entry_id
        await client.command(None, "ACL", "SETUSER", "default", "-hmget")
        with pytest.raises(Unavailable):
            await store.get_many(owner.tenant, [entry_id])
        await client.command(None, "ACL", "SETUSER", "default", "+hmget")
        assert [found is not None for found in await store.get_many(owner.tenant, [entry_id])] == [
            True
        ]


async def test_a_key_of_another_kind_is_corrupt(
    store: ValkeyAnswers, owner: Scope, client: Client
) -> None:
    key = entry_key(owner.tenant, "0f" * 32)
    await client.set(key, b"hello")
    assert await store.get(owner.tenant, "0f" * 32) is None
    assert not await client.command(key, "EXISTS", key)


def test_no_slot_is_hot(owner: Scope, everyone: Scope) -> None:
    entries = {key_slot(entry_key(owner.tenant, f"{n:064x}")) for n in range(1000)}
    assert len(entries) > 900
    registers = [{key_slot(register_key(tag, p)) for p in "rnuexsm"} for tag in tags_of(everyone)]
    assert [len(slots) for slots in registers] == [1] * GLOBAL_SHARDS
    assert len(set.union(*registers)) > GLOBAL_SHARDS / 2
    answers = [answer_of(everyone, n) for n in range(1000)]
    counts = [tag_of(everyone, name) for name in ids_of(*answers)]
    assert max(map(counts.count, set(counts))) < 150


async def test_an_emptied_server_is_filled_again(
    make_server: Callable[..., AnyServer], scheme: str, open_store: Open, owner: Scope
) -> None:
    server = make_server()
    client = connect(server.url(scheme))
    try:
        store = open_store(client=client)
        answer = answer_of(owner, 1, unit(1))
        await store.put(owner, answer)
        assert await near(store, owner, answer.group, unit(1)) == ids_of(answer)
        for node in server.primaries if isinstance(server, Cluster) else [server]:
            node.admin.flushall()
        assert await near(store, owner, answer.group, unit(1)) == []
        await store.put(owner, answer)
        assert await near(store, owner, answer.group, unit(1)) == ids_of(answer)
    finally:
        await client.close()
