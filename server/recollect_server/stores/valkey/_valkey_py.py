"""valkey-py."""

from typing import Any

from valkey import asyncio as valkey_asyncio
from valkey import exceptions
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff

from recollect_server.stores.valkey._library import OpenServer
from recollect_server.stores.valkey._target import Target, Transport


def open_server(target: Target, options: dict[str, Any]) -> OpenServer:
    """Return a client with a pool of connections, none of them opened yet."""
    connection: Any = {
        Transport.TCP: valkey_asyncio.Connection,
        Transport.TLS: valkey_asyncio.SSLConnection,
        Transport.UNIX: valkey_asyncio.UnixDomainSocketConnection,
    }[target.transport]
    pool: Any = valkey_asyncio.ConnectionPool(
        connection_class=connection,
        retry=Retry(NoBackoff(), 0),
        lib_name=None,
        lib_version=None,
        **options,
    )
    return OpenServer(
        server=valkey_asyncio.Valkey.from_pool(pool),
        failure=exceptions.ValkeyError,
        broken=exceptions.ConnectionError,
        no_script=exceptions.NoScriptError,
    )
