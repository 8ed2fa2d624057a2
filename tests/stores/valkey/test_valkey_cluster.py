"""The client on clusters in which nodes die, hang and come back, and slots move."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs
from tests.stores.valkey.setups import ON_MANY, named
from tests.stores.valkey.traffic import Traffic
from tests.stores.valkey.valkey_cluster import Cluster
from tests.stores.valkey.valkey_server import Server, client_of, eventually, redis_program

from recollect_server.errors import Unavailable
from recollect_server.stores.valkey._cluster import key_slot
from recollect_server.stores.valkey.connect import Client, Script

COMMAND_SECONDS = 3.0  # for a machine that is busy
SLACK_SECONDS = 2.5
ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
PARTIAL = ("--cluster-require-full-coverage", "no")

pytestmark = pytest.mark.parametrize("setup", named(ON_MANY), indirect=True)


@pytest.fixture
def make_cluster() -> Iterator[Callable[..., Cluster]]:
    """Start clusters that notice after a second that a node is dead."""
    clusters: list[Cluster] = []

    def make(*options: str, **choices: object) -> Cluster:
        clusters.append(Cluster("--cluster-node-timeout", "1000", *options, **choices))  # type: ignore[arg-type]  # handed on
        clusters[-1].form()
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


@asynccontextmanager
async def traffic_on(url: str, **options: float) -> AsyncIterator[Traffic]:
    """Read and write windows and entries until the test is done."""
    async with client_of(url, command_timeout=COMMAND_SECONDS, **options) as client:
        traffic = Traffic(client, sessions=24, entries=24)
        task = asyncio.create_task(traffic.run())
        try:
            yield traffic
        finally:
            traffic.stop()
            await task


def keys_by_owner(cluster: Cluster) -> list[str]:
    """Return a key of each primary, in their order."""
    keys: dict[int, str] = {}
    for number in range(100):
        keys.setdefault(cluster.owner(f"k{number}").port, f"k{number}")
    return [keys[node.port] for node in cluster.primaries]


async def works(client: Client, key: str) -> bool:
    try:
        await client.set(key, b"1")
    except Unavailable:
        return False
    return True


def test_a_key_s_slot_is_the_server_s(shared_server: Cluster) -> None:
    node = shared_server.nodes[0]
    alphabet = ["{", "}", "a", "é", "{a}"]
    for _ in range(500):
        key = "".join(random.choices(alphabet, k=random.randrange(1, 9)))
        assert key_slot(key) == node.cluster("KEYSLOT", key)


async def test_every_slot_is_reached_and_any_node_leads_to_all(
    shared_server: Cluster, scheme: str
) -> None:
    # A busy machine may take seconds for this.
    options = {"command_timeout": 30.0, "probe_timeout": 30.0}
    for node in shared_server.nodes:
        async with client_of(f"{node.url(scheme)}?cluster=true", **options) as client:
            await client.ping()
            keys = [f"{scheme} {number}" for number in range(200)]
            added = await asyncio.gather(*(client.run(ADD, [key], [1]) for key in keys))
    assert added == [len(shared_server.nodes)] * 200


async def test_a_dead_node_takes_only_its_keys_along_until_it_is_back(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster(*PARTIAL)
    dead = cluster.primaries[0]  # also the one that the URL names
    async with traffic_on(cluster.url(scheme)) as traffic:
        await traffic.rounds(3)
        dead.kill()
        lost = {key for key in traffic.keys if cluster.owner(key) is dead}
        assert 0 < len(lost) < len(traffic.keys)
        await traffic.rounds(20, without=lost)
        assert {key for key, _ in traffic.failures} == lost
        dead.launch()
        await traffic.all_work()
        failed = len(traffic.failures)
        await traffic.rounds(5)
    assert len(traffic.failures) == failed
    assert {key for key, _ in traffic.failures} == lost
    assert traffic.longest < COMMAND_SECONDS + SLACK_SECONDS


async def test_a_replica_takes_over_from_a_dead_node(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster(*PARTIAL, replicas=1)
    dead = cluster.primaries[1]
    async with traffic_on(cluster.url(scheme)) as traffic:
        await traffic.rounds(3)
        dead.kill()
        lost = {key for key in traffic.keys if cluster.owner(key) is dead}
        await traffic.rounds(5, without=lost)
        await traffic.all_work()
        failed = len(traffic.failures)
        await traffic.rounds(5)
        dead.launch()  # becomes a replica
        await eventually(lambda: replicates(dead))
        await traffic.rounds(5)
    assert len(traffic.failures) == failed
    assert {key for key, _ in traffic.failures} <= lost
    assert traffic.longest < COMMAND_SECONDS + SLACK_SECONDS


async def replicates(node: Server) -> bool:
    return bool(node._answers() and node.admin.info()["role"] == "slave")


async def test_a_node_that_hangs_makes_no_call_on_another_node_wait(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster(*PARTIAL, replicas=1)
    frozen = cluster.primaries[2]
    async with traffic_on(cluster.url(scheme)) as traffic:
        await traffic.rounds(3)
        lost = {key for key in traffic.keys if cluster.owner(key) is frozen}
        frozen.send(signal.SIGSTOP)
        try:
            await traffic.rounds(20, without=lost)
            await traffic.all_work()
        finally:
            frozen.send(signal.SIGCONT)
        await traffic.all_work()
    assert {key for key, _ in traffic.failures} <= lost
    assert traffic.longest < COMMAND_SECONDS + SLACK_SECONDS


async def nothing_is_refused(cluster: Cluster, traffic: Traffic) -> None:
    """Return when clients have heard of all earlier moves, also those told by a late node."""
    before = None
    while (now := [node.refusals("MOVED") for node in cluster.primaries]) != before:
        before = now
        await traffic.rounds(2)


@pytest.mark.parametrize("program", ["valkey", "redis"])
async def test_slots_move_under_traffic_and_nothing_fails_or_is_lost(
    make_cluster: Callable[..., Cluster], scheme: str, program: str
) -> None:
    cluster = make_cluster(program=redis_program() if program == "redis" else None)
    # All nodes live: one that is slow to connect to on a busy machine has not failed.
    async with traffic_on(cluster.url(scheme), probe_timeout=COMMAND_SECONDS) as traffic:
        await traffic.rounds(2)
        moved = 0
        for key in random.sample(traffic.keys, 12):
            slot, source = key_slot(key), cluster.owner(key)
            target = random.choice([node for node in cluster.primaries if node is not source])
            await nothing_is_refused(cluster, traffic)
            before = target.refusals("MOVED")
            cluster.begin_move(slot, source, target)
            await traffic.operations(60)
            moved += cluster.move_keys(slot, source, target)
            await traffic.operations(60)
            moved += cluster.move_keys(slot, source, target)
            # It has what it is asked for on the word of its source, so long as it is told so.
            assert target.refusals("MOVED") == before
            cluster.end_move(slot, target)
    assert traffic.failures == []
    assert moved > 0
    async with client_of(cluster.url(scheme)) as client:
        await traffic.check(client)


async def test_keys_that_are_on_both_sides_of_a_move_are_deleted_when_they_are_together(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster()
    slot, source = key_slot("{x}"), cluster.owner("{x}")
    target = next(node for node in cluster.primaries if node is not source)
    async with client_of(cluster.url(scheme)) as client:
        await client.set("{x}1", b"1")
        cluster.begin_move(slot, source, target)
        cluster.move_keys(slot, source, target)
        source.admin.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
        await client.set("{x}2", b"2")
        cluster.begin_move(slot, source, target)
        deleted = asyncio.create_task(client.delete("{x}1", "{x}2"))
        await asyncio.sleep(0.03)  # long enough to be told TRYAGAIN
        cluster.move_keys(slot, source, target)
        assert await deleted == 2
        cluster.end_move(slot, target)


async def test_slots_without_a_node_are_unavailable_and_work_when_they_have_one(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster()
    owner = cluster.owner("k")
    async with client_of(cluster.url(scheme)) as client:
        await client.set("k", b"1")
        for node in cluster.nodes:
            node.cluster("DELSLOTS", key_slot("k"))
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await client.get("k")
        assert time.monotonic() - began < COMMAND_SECONDS + SLACK_SECONDS
        owner.cluster("ADDSLOTS", key_slot("k"))
        await eventually(lambda: works(client, "k"))


async def test_nodes_that_send_a_call_in_a_circle_are_unavailable(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster()
    owner = cluster.owner("k")
    other = next(node for node in cluster.primaries if node is not owner)
    async with client_of(cluster.url(scheme)) as client:
        await client.get("k")
        owner.cluster("SETSLOT", key_slot("k"), "NODE", other.id)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await client.get("k")
        assert time.monotonic() - began < COMMAND_SECONDS + SLACK_SECONDS
        cluster.end_move(key_slot("k"), owner)
        await eventually(lambda: works(client, "k"))


async def test_a_node_s_outage_and_its_end_are_logged_once_each_and_others_not_at_all(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster(*PARTIAL)
    first, *others = keys_by_owner(cluster)
    async with client_of(cluster.url(scheme)) as client:
        assert all([await works(client, key) for key in (first, *others)])
        with capture_logs() as logs:
            cluster.primaries[0].kill()
            for _ in range(5):
                assert not await works(client, first)
                assert all([await works(client, key) for key in others])
                await client.ping()
            cluster.primaries[0].launch()
            await eventually(lambda: works(client, first))
    store = f"{scheme}://127.0.0.1:{cluster.primaries[0].port}/0"
    assert [(entry["event"], entry["store"]) for entry in logs] == [
        ("store unavailable", store),
        ("store available again", store),
    ]


async def test_the_outage_of_a_node_that_was_replaced_is_logged_as_over(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster(*PARTIAL, replicas=1)
    first, *_ = keys_by_owner(cluster)
    async with client_of(cluster.url(scheme)) as client:
        assert await works(client, first)
        with capture_logs() as logs:
            cluster.primaries[0].kill()
            assert not await works(client, first)
            await eventually(lambda: works(client, first), 20)
    store = f"{scheme}://127.0.0.1:{cluster.primaries[0].port}/0"
    assert (logs[0]["event"], logs[0]["store"]) == ("store unavailable", store)
    assert (logs[-1]["event"], logs[-1]["store"]) == ("store available again", store)


async def test_every_node_is_given_the_password_and_may_leave_its_host_unsaid(
    make_cluster: Callable[..., Cluster], scheme: str
) -> None:
    cluster = make_cluster("--cluster-preferred-endpoint-type", "unknown-endpoint")
    for node in cluster.nodes:
        node.admin.config_set("requirepass", "S3cr3t/@")
    url = cluster.url(scheme).replace("://", "://:S3cr3t%2F%40@")
    async with client_of(url) as client:
        assert all([await works(client, key) for key in keys_by_owner(cluster)])
        assert "S3cr3t" not in repr(client)
    async with client_of(cluster.url(scheme)) as client:
        assert not await works(client, "k")


async def test_a_server_that_is_no_cluster_is_unavailable(scheme: str) -> None:
    server = Server()
    server.start()
    try:
        async with client_of(f"{server.url(scheme)}?cluster=true") as client:
            assert not await works(client, "k")
            with pytest.raises(Unavailable):
                await client.ping()
    finally:
        server.close()
