"""The exact tier as its port promises it, on real servers by every library and transport."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.stores.valkey.setups import AnyServer
from tests.stores.valkey.valkey_server import eventually

from recollect_server.cache.model import CacheEntry, CacheScope
from recollect_server.cache.ports import ExactCache
from recollect_server.memory.model import TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from recollect_server.memory.prompt import Usage
from recollect_server.scope import Scope
from recollect_server.stores.codec import CorruptDataError
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.entry_codec import decode_entry, encode_entry
from recollect_server.stores.valkey.exact_cache import ValkeyExactCache
from recollect_server.stores.valkey.keys import entry_key

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=UTC)

ENTRY = CacheEntry(
    entry_id="0f" * 32,
    scope=CacheScope.SESSION,
    user_id="Zoë\0",
    session_id="s{1}\n",
    model="claude-opus-4-8",
    question="Wie spät ist es? 🕰️",
    answer=(
        TextPart("12 Uhr \0"),
        ThinkingPart("…", signature="sig"),
        ToolCallPart("c", "clock", "{}"),
        ToolResultPart("c", "noon", is_error=False),
    ),
    usage=Usage(1, 2, 3, 4),
    tags=("zeit", ""),
    cited_fact_ids=("f1", "f2"),
    holds_memory=True,
    create_time=NOW,
    expire_time=NOW + timedelta(minutes=30),
)


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(client: Client, clock: Clock) -> ExactCache:
    return ValkeyExactCache(client, clock=clock)


@pytest.fixture
def tenant(scope: Scope) -> str:
    return scope.tenant


async def test_an_entry_comes_back_equal(cache: ExactCache, tenant: str) -> None:
    assert await cache.get(tenant, ENTRY.entry_id) is None
    await cache.put(tenant, ENTRY)
    assert await cache.get(tenant, ENTRY.entry_id) == ENTRY
    assert await cache.get(f"{tenant} ", ENTRY.entry_id) is None
    assert await cache.get(tenant, "0e" * 32) is None


async def test_an_entry_replaces_an_older_one(cache: ExactCache, tenant: str) -> None:
    await cache.put(tenant, ENTRY)
    second = replace(ENTRY, answer=(), usage=Usage(), tags=(), cited_fact_ids=(), user_id="")
    await cache.put(tenant, second)
    assert await cache.get(tenant, ENTRY.entry_id) == second


async def test_delete_says_whether_there_was_an_entry(cache: ExactCache, tenant: str) -> None:
    await cache.put(tenant, ENTRY)
    assert await cache.delete(tenant, ENTRY.entry_id) is True
    assert await cache.delete(tenant, ENTRY.entry_id) is False
    assert await cache.get(tenant, ENTRY.entry_id) is None


async def test_the_server_drops_an_entry_at_its_expire_time(
    cache: ExactCache, tenant: str, shared_server: AnyServer
) -> None:
    await cache.put(tenant, ENTRY)
    half_an_hour = 30 * 60 * 1000
    left = shared_server.admin.pttl(entry_key(tenant, ENTRY.entry_id))
    assert half_an_hour - 10_000 < left <= half_an_hour
    await cache.put(tenant, replace(ENTRY, expire_time=NOW + timedelta(milliseconds=30)))

    async def gone() -> bool:
        return await cache.get(tenant, ENTRY.entry_id) is None

    await eventually(gone)


async def test_an_entry_past_its_expire_time_is_a_miss_though_the_server_has_it(
    cache: ExactCache, tenant: str, clock: Clock
) -> None:
    await cache.put(tenant, ENTRY)
    clock.now = ENTRY.expire_time - timedelta(microseconds=1)
    assert await cache.get(tenant, ENTRY.entry_id) == ENTRY
    clock.now = ENTRY.expire_time
    assert await cache.get(tenant, ENTRY.entry_id) is None


async def test_an_entry_that_has_expired_already_only_removes_the_older_one(
    cache: ExactCache, tenant: str
) -> None:
    await cache.put(tenant, ENTRY)
    await cache.put(tenant, replace(ENTRY, expire_time=NOW))
    assert await cache.get(tenant, ENTRY.entry_id) is None


CORRUPT = {
    "nothing": b"",
    "not ours": b"hello",
    "another version": b"\x02" + encode_entry(ENTRY)[1:],
    "cut": encode_entry(ENTRY)[:-1],
    "prolonged": encode_entry(ENTRY) + b"\0",
    "nested too deep": b"\x01" + b"\x91" * 10_000 + b"\x90",
}


@pytest.mark.parametrize("value", CORRUPT.values(), ids=CORRUPT)
async def test_a_corrupt_value_is_logged_removed_and_a_miss(
    cache: ExactCache, tenant: str, shared_server: AnyServer, value: bytes
) -> None:
    key = entry_key(tenant, ENTRY.entry_id)
    shared_server.admin.set(key, value)
    with capture_logs() as logs:
        assert await cache.get(tenant, ENTRY.entry_id) is None
    assert [(log["event"], log["key"]) for log in logs] == [("corrupt cache entry removed", key)]
    assert not shared_server.admin.exists(key)


def test_a_time_in_another_zone_is_the_same_time() -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert decode_entry(encode_entry(replace(ENTRY, create_time=local))) == ENTRY


@given(st.binary(max_size=200), st.integers(0, 600), st.integers(0, 255))
def test_bytes_that_are_no_entry_raise_one_error(noise: bytes, cut: int, byte: int) -> None:
    whole = bytearray(encode_entry(ENTRY))
    whole[cut % len(whole)] = byte
    for value in (noise, b"\x01" + noise, bytes(whole), bytes(whole[:cut])):
        with suppress(CorruptDataError):
            assert isinstance(decode_entry(value), CacheEntry)
