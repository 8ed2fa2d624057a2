"""valkey-py."""

from typing import Any

from valkey import asyncio as valkey_asyncio
from valkey import exceptions
from valkey.asyncio.cluster import ClusterParser
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff

from recollect_server.stores.valkey._library import Driver, Errors
from recollect_server.stores.valkey._target import Transport

_CONNECTIONS: dict[Transport, Any] = {
    Transport.TCP: valkey_asyncio.Connection,
    Transport.TLS: valkey_asyncio.SSLConnection,
    Transport.UNIX: valkey_asyncio.UnixDomainSocketConnection,
}


def driver(transport: Transport) -> Driver:
    """Return the library's way to reach a server."""

    def open_server(options: dict[str, Any]) -> valkey_asyncio.Valkey:
        pool: Any = valkey_asyncio.ConnectionPool(
            connection_class=_CONNECTIONS[transport],
            retry=Retry(NoBackoff(), 0),
            lib_name=None,
            lib_version=None,
            parser_class=ClusterParser,  # the default one does not tell a cluster's refusals apart
            **options,
        )
        return valkey_asyncio.Valkey.from_pool(pool)

    return Driver(open_server, ERRORS)


ERRORS = Errors(
    failure=exceptions.ValkeyError,
    broken=exceptions.ConnectionError,
    refusal=exceptions.ResponseError,
    no_script=exceptions.NoScriptError,
    moved=exceptions.MovedError,
    ask=exceptions.AskError,
    later=(exceptions.TryAgainError, exceptions.ClusterDownError, exceptions.MasterDownError),
)
