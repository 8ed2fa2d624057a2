"""The window cache as its port promises it, on real servers by every library and transport."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.stores.valkey.setups import AnyServer
from tests.stores.valkey.valkey_server import eventually

from recollect_server.memory.model import (
    Message,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.ports import Window, WindowCache
from recollect_server.scope import Scope
from recollect_server.stores.codec import CorruptDataError
from recollect_server.stores.valkey import window as window_module
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.keys import window_key
from recollect_server.stores.valkey.window import ValkeyWindowCache

SESSION = "s {x}\r\n'\"\0 ü"
START = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
PARTS = (
    TextPart("naïve 日本語 \0 end\r\n"),
    ThinkingPart("hm 🤔", signature="sig=="),
    ToolCallPart("call-1", "weather", '{"city": "Zürich"}'),
    ToolResultPart("call-1", "👩‍👩‍👧‍👦 12°", is_error=True),
    TextPart(""),
)


def make_window(revision: int, count: int = 4, time: datetime = START) -> Window:
    messages = tuple(
        Message(
            message_id=f"m{n}",
            session_id=SESSION,
            sequence=n,
            role=list(Role)[n % 4],
            parts=PARTS[: 1 + n % 5],
            author_name="Ada 😀",
            time=START + timedelta(hours=n),
            create_time=START + timedelta(hours=n, microseconds=1),
            metadata={"ключ": "\0", "": ""},
            external_id=f"ext-{revision}",
            token_count=7 * n,
        )
        for n in range(1, count + 1)
    )
    return Window(time, revision, messages)


@pytest.fixture
def cache(client: Client) -> WindowCache:
    return ValkeyWindowCache(client)


async def test_a_window_comes_back_equal(cache: WindowCache, scope: Scope) -> None:
    window = make_window(revision=3, count=20)
    assert await cache.get(scope, SESSION) is None
    await cache.put(scope, SESSION, window, 60.0)
    assert await cache.get(scope, SESSION) == window


async def test_an_empty_window_is_a_window(cache: WindowCache, scope: Scope) -> None:
    await cache.put(scope, SESSION, Window(START, 1, ()), 60.0)
    assert await cache.get(scope, SESSION) == Window(START, 1, ())


async def test_a_deleted_window_is_gone(cache: WindowCache, scope: Scope) -> None:
    await cache.put(scope, SESSION, make_window(1), 60.0)
    await cache.delete(scope, SESSION)
    await cache.delete(scope, SESSION)
    assert await cache.get(scope, SESSION) is None


async def test_windows_of_other_scopes_and_sessions_are_others(
    cache: WindowCache, scope: Scope
) -> None:
    await cache.put(scope, SESSION, make_window(1), 60.0)
    assert await cache.get(Scope(scope.tenant, f"{scope.user_id} "), SESSION) is None
    assert await cache.get(Scope(f"{scope.tenant} ", scope.user_id), SESSION) is None
    assert await cache.get(scope, f"{SESSION} ") is None


@pytest.mark.parametrize(
    ("older", "newer"), [(1, 2), (255, 256), (65_535, 65_536), (2**32 - 1, 2**32), (9, 10)]
)
async def test_an_older_revision_does_not_replace_a_newer_one(
    cache: WindowCache, scope: Scope, older: int, newer: int
) -> None:
    await cache.put(scope, SESSION, make_window(older), 60.0)
    await cache.put(scope, SESSION, make_window(newer), 60.0)
    await cache.put(scope, SESSION, make_window(older), 60.0)
    assert await cache.get(scope, SESSION) == make_window(newer)


async def test_a_window_of_a_later_session_of_the_same_id_replaces_any_earlier_one(
    cache: WindowCache, scope: Scope
) -> None:
    later = START + timedelta(microseconds=1)
    await cache.put(scope, SESSION, make_window(9), 60.0)
    await cache.put(scope, SESSION, make_window(2, time=later), 60.0)
    await cache.put(scope, SESSION, make_window(9), 60.0)
    assert await cache.get(scope, SESSION) == make_window(2, time=later)


async def test_the_newest_of_64_concurrent_puts_stays(cache: WindowCache, scope: Scope) -> None:
    for _ in range(5):
        revisions = random.sample(range(1, 100_000), 64)
        await cache.delete(scope, SESSION)
        await asyncio.gather(
            *(cache.put(scope, SESSION, make_window(number), 60.0) for number in revisions)
        )
        assert await cache.get(scope, SESSION) == make_window(max(revisions))


async def test_the_same_revision_again_renews_its_life(
    cache: WindowCache, scope: Scope, shared_server: AnyServer
) -> None:
    await cache.put(scope, SESSION, make_window(2), 10.0)
    await cache.put(scope, SESSION, make_window(1), 1000.0)
    assert shared_server.admin.pttl(window_key(scope, SESSION)) <= 10_000
    await cache.put(scope, SESSION, make_window(2), 60.0)
    assert 50_000 < shared_server.admin.pttl(window_key(scope, SESSION)) <= 60_000


async def test_a_window_is_gone_at_its_end_of_life(cache: WindowCache, scope: Scope) -> None:
    await cache.put(scope, SESSION, make_window(1), 0.0501)

    async def gone() -> bool:
        return await cache.get(scope, SESSION) is None

    await eventually(gone)


CORRUPT = {
    "nothing": b"",
    "not ours": b"hello",
    "no header": b"\x02\0\0",
    "no messages": b"\x02" + bytes(16),
    "another version": b"\x02" + bytes(8) + b"\x90",
    "not a list": b"\x02" + bytes(16) + b"\xc3",
    "not messages": b"\x02" + bytes(16) + b"\x93\x01\x02\x03",
    "nested too deep": b"\x02" + bytes(16) + b"\x91" * 10_000 + b"\x90",
}


@pytest.mark.parametrize("value", CORRUPT.values(), ids=CORRUPT)
async def test_a_corrupt_value_is_logged_removed_and_absent(
    cache: WindowCache, scope: Scope, shared_server: AnyServer, value: bytes
) -> None:
    key = window_key(scope, SESSION)
    shared_server.admin.set(key, value)
    with capture_logs() as logs:
        assert await cache.get(scope, SESSION) is None
    assert [(entry["event"], entry["key"]) for entry in logs] == [("corrupt window removed", key)]
    assert not shared_server.admin.exists(key)


async def test_a_value_of_another_version_is_replaced(
    cache: WindowCache, scope: Scope, shared_server: AnyServer
) -> None:
    for value in (b"\x03" + b"\xff" * 20, b"\x02\xff", b""):
        shared_server.admin.set(window_key(scope, SESSION), value)
        await cache.put(scope, SESSION, make_window(1), 60.0)
        assert await cache.get(scope, SESSION) == make_window(1)


@given(st.binary(max_size=200), st.integers(0, 600), st.integers(0, 255))
def test_bytes_that_are_no_window_raise_one_error(noise: bytes, cut: int, byte: int) -> None:
    whole = bytearray(window_module._encode(make_window(1)))
    whole[cut % len(whole)] = byte
    for value in (noise, b"\x02" + bytes(16) + noise, bytes(whole), bytes(whole[:cut])):
        with suppress(CorruptDataError):
            assert isinstance(window_module._decode(value), Window)
