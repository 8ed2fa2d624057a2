"""A silent server costs a lookup its patience once, and nothing until it answers again."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest
from tests.stores.valkey.setups import start_cluster, start_valkey
from tests.stores.valkey.valkey_server import Server, eventually

from recollect_server.errors import Unavailable
from recollect_server.stores.valkey._cluster import key_slot
from recollect_server.stores.valkey.breaker import Circuit, ImpatientClient
from recollect_server.stores.valkey.connect import connect
from recollect_server.telemetry import Telemetry

PATIENCE = 0.2


@pytest.fixture
def server() -> AsyncIterator[Server]:
    made = start_valkey()
    yield made
    made.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[ImpatientClient]:
    made = ImpatientClient(connect(server.url("valkey"), command_timeout=PATIENCE), Circuit())
    yield made
    await made.close()


async def _works(client: ImpatientClient) -> bool:
    try:
        return await client.get("k") == b"v"
    except Unavailable:
        return False


async def test_a_frozen_server_is_given_up_soon_then_at_once_until_it_answers(
    server: Server, client: ImpatientClient
) -> None:
    await client.set("k", b"v")
    server.send(signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await client.get("k")
    first = time.monotonic() - started
    assert PATIENCE <= first < 10 * PATIENCE  # a machine may be busy
    started = time.monotonic()
    for _ in range(1000):
        with pytest.raises(Unavailable):
            await client.get("k")
    assert time.monotonic() - started < 1000 * PATIENCE / 10
    server.send(signal.SIGCONT)
    await eventually(lambda: _works(client))


async def test_what_is_given_up_at_once_is_begun_nowhere(server: Server) -> None:
    """A coroutine that nobody awaits is a warning, which a server would write into its log."""
    watched = Telemetry(active=True).watch_client(connect(server.url("valkey")), "cache")
    client = ImpatientClient(watched, Circuit())
    try:
        server.kill()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await client.get("k")
    finally:
        await client.close()


async def test_a_dead_server_works_again_when_it_is_back(
    server: Server, client: ImpatientClient
) -> None:
    await client.set("k", b"v")
    server.kill()
    with pytest.raises(Unavailable):
        await client.get("k")
    server.start()

    async def back() -> bool:
        try:
            return await client.set("k", b"v")
        except Unavailable:
            return False

    await eventually(back)
    assert await client.get("k") == b"v"


async def test_an_event_loop_that_was_held_up_is_no_outage(
    server: Server, client: ImpatientClient
) -> None:
    await client.set("k", b"v")
    hasty = ImpatientClient(connect(server.url("valkey"), command_timeout=0.02), Circuit())
    try:
        await eventually(lambda: _works(hasty))
        for _ in range(20):
            asyncio.get_running_loop().call_soon(time.sleep, 0.05)
            assert await hasty.get("k") == b"v"
    finally:
        await hasty.close()


async def test_calls_to_other_nodes_of_a_cluster_go_on() -> None:
    cluster = start_cluster()
    client = ImpatientClient(connect(cluster.url("valkey"), command_timeout=0.5), Circuit())
    try:
        keys = [f"k{n}" for n in range(60)]
        for key in keys:
            await client.set(key, b"v")
        places = {key: client.place(key) for key in keys}
        frozen = cluster.primaries[0]
        port = str(frozen.port)
        frozen.send(signal.SIGSTOP)
        there = [key for key in keys if places[key].removesuffix("/0").endswith(f":{port}")]
        elsewhere = [key for key in keys if key not in there]
        assert there
        assert elsewhere
        with pytest.raises(Unavailable):
            await client.get(there[0])
        for key in elsewhere:
            assert await client.get(key) == b"v"
        assert len({key_slot(key) for key in elsewhere}) > 1
        frozen.send(signal.SIGCONT)
    finally:
        await client.close()
        cluster.close()
