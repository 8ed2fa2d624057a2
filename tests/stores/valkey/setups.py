"""What the client is tested on: servers, clusters, and the schemes that lead to them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.stores.valkey.valkey_cluster import Cluster
from tests.stores.valkey.valkey_server import Server, redis_program

AnyServer = Server | Cluster


def start_valkey(*options: str) -> Server:
    server = Server(*options)
    server.start()
    return server


def start_redis(*options: str) -> Server:
    server = Server(*options, program=redis_program())
    server.start()
    return server


def start_cluster(*options: str) -> Cluster:
    # Short, so that primaries that were killed and are back take keys again soon.
    cluster = Cluster("--cluster-node-timeout", "2000", *options)
    cluster.form()
    return cluster


@dataclass(frozen=True)
class Setup:
    """What a client is tested on, and the scheme of its URL."""

    name: str
    start: Callable[..., AnyServer]
    scheme: str


ON_ONE = [
    Setup("valkey", start_valkey, "valkey"),
    Setup("valkey", start_valkey, "redis"),
    Setup("valkey", start_valkey, "valkey+unix"),
    Setup("valkey", start_valkey, "unix"),
    Setup("redis", start_redis, "redis"),
]
ON_MANY = [
    Setup("cluster", start_cluster, "valkey"),
    Setup("cluster", start_cluster, "redis"),
]


def named(setups: list[Setup]) -> list[object]:
    """Parameters of a test, for `setup`."""
    return [pytest.param(setup, id=f"{setup.scheme} on {setup.name}") for setup in setups]
