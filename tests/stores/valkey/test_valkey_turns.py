"""Claims to model calls and messages between processes, on every kind of server."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from structlog.testing import capture_logs

from recollect_server.chat.model import BlockKind, Delta, ToolUse
from recollect_server.chat.ports import Cancel, Flight, Follow, News
from recollect_server.chat.turn import ChatEvent, TurnCache
from recollect_server.ids import uuid7
from recollect_server.memory.prompt import Usage
from recollect_server.stores.valkey.flights import ValkeyFlights
from recollect_server.stores.valkey.keys import flight_key
from recollect_server.stores.valkey.relay import ValkeyRelay

MINE = Flight("Zoë\0", "t1", datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=UTC))
OTHERS = replace(MINE, turn_id="t2")


async def test_a_call_is_claimed_by_one_and_kept_and_given_up_by_that_one_only(client):
    flights, tenant = ValkeyFlights(client), uuid7()
    assert await flights.claim(tenant, "k", MINE, 60, None) is None
    assert await flights.claim(tenant, "k", MINE, 60, None) is None
    assert await flights.claim(tenant, "k", OTHERS, 60, None) == MINE
    assert await flights.claim(tenant, "other", OTHERS, 60, None) is None
    assert await flights.claim(uuid7(), "k", OTHERS, 60, None) is None
    await flights.release(tenant, "k", OTHERS)
    assert await flights.claim(tenant, "k", OTHERS, 60, None) == MINE
    await flights.release(tenant, "k", MINE)
    assert await flights.claim(tenant, "k", OTHERS, 60, None) is None


async def test_a_claim_ends_with_its_time_unless_it_is_prolonged(client):
    flights, tenant = ValkeyFlights(client), uuid7()
    await flights.claim(tenant, "k", MINE, 0.05, None)
    await flights.prolong(tenant, "k", OTHERS, 60)
    async with asyncio.timeout(10):
        # Nothing tells of the end of a claim, so there is no event to wait for.
        while await flights.claim(tenant, "k", OTHERS, 1, None):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await flights.prolong(tenant, "k", OTHERS, 60)
    await asyncio.sleep(1.1)  # longer than it was claimed for
    assert await flights.claim(tenant, "k", MINE, 60, None) == OTHERS


async def test_a_claim_that_counts_no_more_is_replaced_once(client):
    flights, tenant = ValkeyFlights(client), uuid7()
    third = replace(MINE, turn_id="t3")
    await flights.claim(tenant, "k", MINE, 60, None)
    assert await flights.claim(tenant, "k", OTHERS, 60, MINE) is None
    assert await flights.claim(tenant, "k", third, 60, MINE) == OTHERS


async def test_a_corrupt_claim_is_removed(client):
    flights, tenant = ValkeyFlights(client), uuid7()
    await client.set(flight_key(tenant, "k"), b"\xc1", px=60_000)
    with capture_logs() as logs:
        assert await flights.claim(tenant, "k", MINE, 60, None) is None
    assert [entry["event"] for entry in logs] == ["corrupt claim removed"]
    assert await client.get(flight_key(tenant, "k")) is None


@asynccontextmanager
async def _relay(url):
    relay = ValkeyRelay(url, uuid7())
    heard = asyncio.Queue()
    relay.receive(heard.put_nowait)
    running = asyncio.create_task(relay.run())
    yield relay, heard
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_messages_reach_the_process_they_are_for(shared_server, scheme):
    url = shared_server.url(scheme)
    events = (
        ChatEvent(3, TurnCache()),
        ChatEvent(4, Delta(0, BlockKind.TEXT, "Zoë\0")),
        ChatEvent(5, ToolUse(1, "c", "f")),
        ChatEvent(6, Usage(1, 2, 3, 4)),
    )
    sent = [Follow("t", "p", 2, 7), Cancel("t"), News("t", 1, events), News("t", 1, ())]
    async with (
        asyncio.timeout(20),
        _relay(url) as (one, _),
        _relay(url) as (other, heard),
        _relay(url) as (_, nothing),
    ):
        while heard.empty():  # until it has subscribed
            one.send(other.process, Cancel("ready?"))
            await asyncio.sleep(0.05)
        for message in sent:
            one.send(other.process, message)
        got = []
        while len(got) < len(sent):
            message = await heard.get()
            if message != Cancel("ready?"):
                got.append(message)
    assert got == sent
    assert nothing.empty()
