"""Servers and clients that the tests of this folder share."""

import random
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from tests.stores.valkey.setups import ON_MANY, ON_ONE, AnyServer, Setup, named

from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import Client, connect


@pytest.fixture(params=named(ON_ONE + ON_MANY))
def setup(request: pytest.FixtureRequest) -> Setup:
    chosen: Setup = request.param
    return chosen


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[dict[str, AnyServer]]:
    """Servers that live for all tests, by the names of their setups."""
    servers: dict[str, AnyServer] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture
def shared_server(setup: Setup, shared_servers: dict[str, AnyServer]) -> AnyServer:
    """A server or cluster that no test may harm."""
    if setup.name not in shared_servers:
        shared_servers[setup.name] = setup.start()
    return shared_servers[setup.name]


@pytest.fixture
def make_server(setup: Setup) -> Iterator[Callable[..., AnyServer]]:
    """Start servers that the test may kill, with further options of the program."""
    servers: list[AnyServer] = []

    def make(*options: str) -> AnyServer:
        servers.append(setup.start(*options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def scheme(setup: Setup) -> str:
    return setup.scheme


@pytest_asyncio.fixture
async def client(shared_server: AnyServer, scheme: str) -> AsyncIterator[Client]:
    """A client of the shared server, by each library and each transport."""
    # A busy machine may take its time; what a late answer does has tests of its own.
    client = connect(shared_server.url(scheme), command_timeout=30, probe_timeout=15)
    yield client
    await client.close()


@pytest.fixture
def scope() -> Scope:
    """A scope that no other test has."""
    return Scope(tenant=f"tenant {random.getrandbits(64):x}", user_id="Zoë {1}\n'\"\0")
