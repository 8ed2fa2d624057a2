"""The client against real servers, by both libraries and all transports, in good and bad times."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from types import ModuleType

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.stores.valkey.setups import ON_ONE, AnyServer, named
from tests.stores.valkey.valkey_server import client_of

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.valkey import _line, _redis_py, _valkey_py
from recollect_server.stores.valkey._target import Transport
from recollect_server.stores.valkey.connect import Client, Refused, Script, connect, open_messenger

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


async def test_calls_at_the_same_time_get_their_own_answers(client: Client, key: str) -> None:
    values = {f"{key}{number}": b"%d" % number * (number % 7 * 9000 + 1) for number in range(200)}
    await asyncio.gather(*(client.set(name, value) for name, value in values.items()))
    found = await asyncio.gather(*(client.get(name) for name in values))
    assert dict(zip(values, found, strict=True)) == values


async def test_a_refusal_among_calls_is_that_call_s_alone(client: Client, key: str) -> None:
    await client.set(key, b"not a hash")
    answers = await asyncio.gather(
        client.get(key), client.command(key, "HGET", key, "f"), client.get(key),
        return_exceptions=True,
    )  # fmt: skip
    assert (answers[0], answers[2]) == (b"not a hash", b"not a hash")
    assert isinstance(answers[1], Refused)


async def test_what_waits_when_it_is_closed_fails_at_once(
    own_client: Client, server: AnyServer
) -> None:
    await own_client.set("k", b"v")
    server.send(signal.SIGSTOP)
    waiting = asyncio.create_task(own_client.get("k"))
    await asyncio.sleep(0)
    await own_client.close()
    with pytest.raises(Unavailable):
        await waiting
    server.send(signal.SIGCONT)


async def test_a_killed_server_is_unavailable_at_once_and_used_again_when_it_is_back(
    own_client: Client, server: AnyServer
) -> None:
    await asyncio.gather(*(own_client.set(f"k{number}", b"1") for number in range(20)))
    server.kill()
    # Three that wait for nothing; each would wait a second for a silent server.
    assert sum([await assert_unavailable(own_client) for _ in range(3)]) < 3
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
    # One after the other they would wait 20 seconds.
    assert time.monotonic() - began < 10
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


@pytest.mark.parametrize("scheme", ["valkey", "redis"])
async def test_a_server_that_takes_no_connections_is_unavailable_and_says_why(scheme: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-DENIED it is in protected mode\r\n")
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    with capture_logs() as logs:
        async with listening, client_of(f"{scheme}://127.0.0.1:{port}") as client:
            await assert_unavailable(client)
    # As an answer to the command, or to none; or the end of the connection is seen first.
    kinds = {"ResponseError DENIED", "ConnectionError DENIED", "ConnectionError"}
    assert len(logs) == 1
    assert logs[0]["error"] in kinds


@pytest.mark.parametrize("scheme", ["valkey", "redis"])
async def test_who_waits_for_a_connection_that_is_closed_meanwhile_is_told(scheme: str) -> None:
    met = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        client = connect(f"{scheme}://:secret@127.0.0.1:{port}", command_timeout=60)
        waiting = [asyncio.create_task(client.get("k")) for _ in range(3)]
        await met.wait()
        await client.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 3


@pytest.mark.parametrize("setup", named(ON_ONE), indirect=True)
async def test_a_slow_server_has_no_more_calls_wait_than_it_can_answer(
    own_client: Client, server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_line, "MOST_WAITING", 50)
    await own_client.set("k", b"v")
    server.send(signal.SIGSTOP)
    first = [asyncio.create_task(own_client.get("k")) for _ in range(50)]
    await asyncio.sleep(0)  # they are asked
    with capture_logs() as logs:
        assert await assert_unavailable(own_client) < 0.5
    assert not any(task.done() for task in first)
    server.send(signal.SIGCONT)
    assert await asyncio.gather(*first) == [b"v"] * 50
    assert await own_client.get("k") == b"v"
    assert [log["error"] for log in logs] == ["TooManyWaiting"]


async def test_silence_costs_every_call_its_patience_once(
    own_client: Client, server: AnyServer
) -> None:
    await own_client.set("k", b"v")
    server.send(signal.SIGSTOP)

    async def call(delay: float) -> float:
        await asyncio.sleep(delay)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await own_client.get("k")
        return time.monotonic() - began

    took = await asyncio.gather(*(call(number / 10) for number in range(10)))
    server.send(signal.SIGCONT)
    # One second, and no second one on another connection.
    assert max(took) < 1.9


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
async def test_what_is_forbidden_is_unavailable_no_outage_and_logged_once(
    server: AnyServer, scheme: str
) -> None:
    server.admin.execute_command(
        "ACL", "SETUSER", "default", "-get", "-incrby", "resetchannels", "resetkeys", "~test:*"
    )
    store = Script("return redis.call('SET', KEYS[1], ARGV[1])")
    messenger = open_messenger(server.url(scheme))
    with capture_logs() as logs:
        async with client_of(server.url(scheme)) as client:
            for _ in range(3):
                await assert_unavailable(client)
                with pytest.raises(Unavailable):
                    await client.run(ADD, ["test:n"], [1])
                with pytest.raises(Refused) as refused:
                    await client.command("k", "SET", "k", "v")
                assert refused.value.forbidden
                assert await client.run(store, ["test:k"], [b"v"])
                await messenger.publish("c", b"")
    await messenger.close()
    assert {log["event"] for log in logs} == {"store forbids what it is asked"}
    in_script = "script" if "redis" in str(server.program.path) else "incrby"
    assert [log["forbidden"] for log in logs] == ["get", in_script, "key", "channel"]


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
        async with client_of(f"{scheme}://127.0.0.1:1", command_timeout=20) as client:
            assert await assert_unavailable(client) < 10


@pytest.mark.parametrize("library", [_redis_py, _valkey_py], ids=["redis", "valkey"])
def test_a_command_is_packed_as_the_protocol_has_it(library: ModuleType) -> None:
    large = bytes(range(256)) * 1000
    packed = library.driver(Transport.UNIX).pack(("HSET", "é 1", b"\0\r\n$", -5, 0, 2**63, large))
    words = (b"HSET", "é 1".encode(), b"\0\r\n$", b"-5", b"0", b"9223372036854775808", large)
    assert packed == b"*7\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)
