"""valkey-py."""

from typing import Any

import libvalkey
from valkey import asyncio as valkey_asyncio
from valkey import exceptions
from valkey.asyncio.cluster import ClusterParser
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff

from recollect_server.stores.valkey._library import Driver, driver_of
from recollect_server.stores.valkey._target import Transport

_CONNECTIONS: dict[Transport, Any] = {
    Transport.TCP: valkey_asyncio.Connection,
    Transport.TLS: valkey_asyncio.SSLConnection,
    Transport.UNIX: valkey_asyncio.UnixDomainSocketConnection,
}


def driver(transport: Transport) -> Driver:
    """Return the library's way to reach a server."""
    fixed: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "lib_name": None,
        "lib_version": None,
        "parser_class": ClusterParser,  # the default one does not tell a cluster's refusals apart
    }
    return driver_of(
        valkey_asyncio.Valkey,
        valkey_asyncio.ConnectionPool,
        _CONNECTIONS[transport],
        fixed,
        libvalkey.pack_command,
        exceptions,
        exceptions.ValkeyError,
    )
