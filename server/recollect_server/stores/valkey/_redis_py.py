"""redis-py."""

from typing import Any

import hiredis
from redis import asyncio as redis_asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from recollect_server.stores.valkey._library import Driver, driver_of
from recollect_server.stores.valkey._target import Transport

_CONNECTIONS: dict[Transport, Any] = {
    Transport.TCP: redis_asyncio.Connection,
    Transport.TLS: redis_asyncio.SSLConnection,
    Transport.UNIX: redis_asyncio.UnixDomainSocketConnection,
}


def driver(transport: Transport) -> Driver:
    """Return the library's way to reach a server."""
    fixed: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "driver_info": None}
    return driver_of(
        redis_asyncio.Redis,
        redis_asyncio.ConnectionPool,
        _CONNECTIONS[transport],
        fixed,
        hiredis.pack_command,  # type: ignore[arg-type]  # its stub allows one word only
        exceptions,
        exceptions.RedisError,
    )
