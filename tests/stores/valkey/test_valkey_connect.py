"""The client against real servers, by both libraries and all transports, in good and bad times."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.stores.valkey.setups import ON_ONE, AnyServer, named
from tests.stores.valkey.valkey_server import client_of

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.valkey.connect import Client, Script, connect

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
def key() -> str:
    return f"test:{random.getrandbits(64):x}"


@pytest.fixture
def server(make_server: Callable[..., AnyServer]) -> AnyServer:
    return make_server()


@pytest_asyncio.fixture
async def own_client(server: AnyServer, scheme: str) -> AsyncIterator[Client]:
    """A client of a server that the test may kill."""
    client = connect(server.url(scheme))
    yield client
    await client.close()


async def assert_unavailable(client: Client) -> float:
    """Return the seconds that a failing GET took."""
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await client.get("k")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert caught.value.retry_after is not None
    return time.monotonic() - began


async def test_a_value_comes_back_as_the_bytes_it_was(client: Client, key: str) -> None:
    value = bytes(range(256)) * 1000
    assert await client.get(key) is None
    assert await client.set(key, value)
    assert await client.get(key) == value
    assert await client.delete(key, key) == 1
    assert await client.delete(key) == 0


async def test_nx_sets_only_what_is_absent(client: Client, key: str) -> None:
    assert await client.set(key, b"1", nx=True)
    assert not await client.set(key, b"2", nx=True, px=1000)
    assert await client.get(key) == b"1"


async def test_px_counts_milliseconds(client: Client, key: str, shared_server: AnyServer) -> None:
    await client.set(key, b"1", px=60_000)
    assert 50_000 < shared_server.admin.pttl(key) <= 60_000
    await client.set(key, b"1")
    assert shared_server.admin.pttl(key) == -1


async def test_a_script_runs_also_after_the_server_forgot_it(
    client: Client, key: str, shared_server: AnyServer
) -> None:
    assert await client.run(ADD, [key], [2]) == 2
    shared_server.admin.script_flush()
    assert await client.run(ADD, [key], [3]) == 5
    assert await client.run(ADD, [key], [b"4"]) == 9


async def test_calls_beyond_the_connections_wait_for_their_turn(
    shared_server: AnyServer, scheme: str, key: str
) -> None:
    async with client_of(shared_server.url(scheme), max_connections=2) as client:
        results = await asyncio.gather(*(client.run(ADD, [key], [1]) for _ in range(100)))
    assert sorted(results) == list(range(1, 101))


async def test_a_killed_server_is_unavailable_at_once_and_used_again_when_it_is_back(
    own_client: Client, server: AnyServer
) -> None:
    await asyncio.gather(*(own_client.set(f"k{number}", b"1") for number in range(20)))
    server.kill()
    for _ in range(3):
        assert await assert_unavailable(own_client) < 1.2
    server.start()
    assert await asyncio.gather(*(own_client.get("k") for _ in range(20))) == [None] * 20


async def test_a_restart_between_two_calls_goes_unnoticed(
    own_client: Client, server: AnyServer
) -> None:
    await asyncio.gather(*(own_client.set(f"k{number}", b"1") for number in range(20)))
    server.kill()
    server.start()
    assert await asyncio.gather(*(own_client.get("k") for _ in range(20))) == [None] * 20


async def test_a_frozen_server_is_unavailable_within_the_timeout_and_no_late_answer_is_mixed_up(
    own_client: Client, server: AnyServer
) -> None:
    for number in range(5):
        await own_client.set(f"k{number}", b"%d" % number)
    server.send(signal.SIGSTOP)
    began = time.monotonic()
    results = await asyncio.gather(
        *(own_client.get(f"k{number % 5}") for number in range(20)), return_exceptions=True
    )
    assert time.monotonic() - began < 1.5
    assert all(isinstance(result, Unavailable) for result in results)
    server.send(signal.SIGCONT)
    for number in range(20):
        assert await own_client.get(f"k{number % 5}") == b"%d" % (number % 5)


async def test_a_cancelled_call_leaves_no_answer_for_the_next(client: Client, key: str) -> None:
    await client.set(key, b"right")
    await client.set(f"{key}2", b"wrong" * 100_000)
    for step in range(50):
        task = asyncio.create_task(client.get(f"{key}2"))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        assert await client.get(key) == b"right"
        await asyncio.wait([task])


@pytest.fixture
def ailing(make_server: Callable[..., AnyServer]) -> Callable[[str], AnyServer]:
    """Make a server that refuses commands for a reason of its own."""

    def make(ailment: str) -> AnyServer:
        if ailment == "password":
            return make_server("--requirepass", "right")
        server = make_server()
        if ailment == "replica":
            server.admin.replicaof("127.0.0.1", "1")
        elif ailment == "memory":
            server.admin.config_set("maxmemory", 1)
        else:
            server.admin.lpush("k", "an element")
        return server

    return make


@pytest.mark.parametrize("setup", named([ON_ONE[0], ON_ONE[1], ON_ONE[4]]), indirect=True)
@pytest.mark.parametrize(
    ("ailment", "code"),
    [
        ("password", "AuthenticationError"),
        ("replica", "ReadOnlyError"),
        ("memory", "OutOfMemoryError"),
        ("type", "ResponseError WRONGTYPE"),
    ],
)
async def test_a_refusal_is_unavailable_and_its_kind_is_logged(
    ailing: Callable[[str], AnyServer], scheme: str, ailment: str, code: str
) -> None:
    server = ailing(ailment)
    async with client_of(server.url(scheme)) as client:
        with capture_logs() as logs, pytest.raises(Unavailable) as caught:
            await (client.get("k") if ailment == "type" else client.set("x", b"1"))
    assert [entry["error"] for entry in logs] == [code]
    assert caught.value.__cause__ is None
    assert "WRONGTYPE" not in str(caught.value)


@pytest.mark.parametrize("setup", named(ON_ONE), indirect=True)
async def test_an_outage_and_its_end_are_logged_once_each(
    own_client: Client, server: AnyServer, scheme: str
) -> None:
    with capture_logs() as logs:
        server.kill()
        await asyncio.gather(*(assert_unavailable(own_client) for _ in range(5)))
        server.start()
        await own_client.ping()
        await own_client.ping()
    assert [entry["event"] for entry in logs] == ["store unavailable", "store available again"]
    assert logs[0]["store"].startswith(f"{scheme}://")


@pytest.mark.parametrize("setup", named(ON_ONE), indirect=True)
async def test_a_password_opens_the_server_and_shows_nowhere(
    make_server: Callable[..., AnyServer], scheme: str
) -> None:
    server = make_server("--requirepass", "S3cr3t/@")
    url = server.url(scheme)
    right = url.replace("://", "://:S3cr3t%2F%40@")
    wrong = url.replace("://", "://ada:S3cr3t-wrong@")
    with capture_logs() as logs:
        async with client_of(right) as client:
            await client.ping()
            assert "S3cr3t" not in repr(client)
        async with client_of(wrong) as client:
            await assert_unavailable(client)
    assert logs
    assert "S3cr3t" not in repr(logs)


async def test_a_host_without_a_server_is_unavailable_at_once() -> None:
    for scheme in ("redis", "valkey"):
        async with client_of(f"{scheme}://127.0.0.1:1") as client:
            assert await assert_unavailable(client) < 0.5
