"""Buckets, those of Valkey on every kind of server and those of a process, by one contract."""

import asyncio
import time

import pytest

from recollect_server.admin.buckets import OwnBuckets
from recollect_server.admin.limits import Limit, Rate
from recollect_server.scope import Scope
from recollect_server.stores.valkey.buckets import ValkeyBuckets
from recollect_server.stores.valkey.keys import bucket_key

SLOW = Rate(100, 86_400.0)
"""While a test runs, less than one permit comes back."""


@pytest.fixture(params=["valkey", "own"])
def buckets(request, client):
    return ValkeyBuckets(client) if request.param == "valkey" else OwnBuckets(time.monotonic)


async def test_a_bucket_gives_what_there_is_and_no_more(buckets, scope):
    taken = await buckets.take(scope, Limit.REQUESTS, SLOW, 1, 60)
    assert taken.granted == 60
    assert taken.full_in == pytest.approx(0.6 * 86_400, rel=1e-3)
    assert (await buckets.take(scope, Limit.REQUESTS, SLOW, 1, 60)).granted == 40
    refused = await buckets.take(scope, Limit.REQUESTS, SLOW, 1, 1)
    assert refused.granted == 0
    assert refused.full_in == pytest.approx(86_400, rel=1e-3)


async def test_less_than_needed_is_not_given(buckets, scope):
    await buckets.take(scope, Limit.REQUESTS, SLOW, 95, 95)
    assert (await buckets.take(scope, Limit.REQUESTS, SLOW, 6, 9)).granted == 0
    assert (await buckets.take(scope, Limit.REQUESTS, SLOW, 5, 9)).granted == 5


async def test_more_than_a_bucket_holds_is_owed(buckets, scope):
    taken = await buckets.take(scope, Limit.MESSAGES, SLOW, 250, 250)
    assert taken.granted == 250
    assert taken.full_in == pytest.approx(2.5 * 86_400, rel=1e-3)
    assert (await buckets.take(scope, Limit.MESSAGES, SLOW, 1, 1)).granted == 0


async def test_a_charge_is_made_whether_there_is_any_left_or_not(buckets, scope):
    await buckets.take(scope, Limit.TOKENS, SLOW, 100, 100)
    taken = await buckets.take(scope, Limit.TOKENS, SLOW, 0, 50)
    assert taken.granted == 50
    assert taken.full_in == pytest.approx(1.5 * 86_400, rel=1e-3)
    looked = await buckets.take(scope, Limit.TOKENS, SLOW, 0, 0)
    assert looked.granted == 0
    assert looked.full_in == pytest.approx(taken.full_in, rel=1e-3)


async def test_permits_come_back_evenly(buckets, scope):
    rate = Rate(1000, 1.0)
    await buckets.take(scope, Limit.REQUESTS, rate, 1000, 1000)
    began, given = time.monotonic(), 0
    async with asyncio.timeout(30):
        while given < 300:
            given += (await buckets.take(scope, Limit.REQUESTS, rate, 1, 1000)).granted
            await asyncio.sleep(0.005)
    # As many as the time has brought, and the ones that came back before the clock was read.
    assert given <= 1000 * (time.monotonic() - began) + 200


async def test_owners_and_limits_have_buckets_of_their_own(buckets, scope):
    others = (Scope(scope.tenant, ""), Scope(scope.tenant + "x", scope.user_id))
    for owner in (scope, *others):
        for limit in (Limit.REQUESTS, Limit.MESSAGES):
            assert (await buckets.take(owner, limit, SLOW, 100, 100)).granted == 100


async def test_a_bucket_that_is_full_is_not_kept(client, scope):
    rate = Rate(100, 1.0)
    await ValkeyBuckets(client).take(scope, Limit.REQUESTS, rate, 5, 5)
    async with asyncio.timeout(10):
        # Nothing tells that a key is gone, so there is no event to wait for.
        while await client.get(bucket_key(scope, Limit.REQUESTS)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_was_used_at_another_rate_is_as_many_permits_but_no_more_than_all(
    buckets, scope
):
    await buckets.take(scope, Limit.REQUESTS, SLOW, 50, 50)
    larger = Rate(1000, 3600.0)
    taken = await buckets.take(scope, Limit.REQUESTS, larger, 0, 0)
    assert taken.full_in == pytest.approx(50 * 3.6, abs=2)
    assert (await buckets.take(scope, Limit.REQUESTS, larger, 1, 900)).granted == 900
    taken = await buckets.take(scope, Limit.REQUESTS, SLOW, 1, 1)
    assert taken.granted == 0
    assert taken.full_in == pytest.approx(86_400, rel=1e-3)
