"""Servers and clients that the tests of this folder share."""

import random
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from tests.stores.valkey.valkey_server import Server

from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import Client, connect

SCHEMES = ("valkey", "redis", "valkey+unix", "unix")


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A server that lives for all tests and that no test may harm."""
    server = Server()
    server.start()
    yield server
    server.close()


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    """Start servers that the test may kill, with further options of the program."""
    servers: list[Server] = []

    def make(*options: str) -> Server:
        servers.append(Server(*options))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def client(shared_server: Server, scheme: str) -> AsyncIterator[Client]:
    """A client of the shared server, by each library and each transport."""
    client = connect(shared_server.url(scheme))
    yield client
    await client.close()


@pytest.fixture
def scope() -> Scope:
    """A scope that no other test has."""
    return Scope(tenant=f"tenant {random.getrandbits(64):x}", user_id="Zoë {1}\n'\"\0")
