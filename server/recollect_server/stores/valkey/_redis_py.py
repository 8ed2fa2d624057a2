"""redis-py."""

from typing import Any

from redis import asyncio as redis_asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from recollect_server.stores.valkey._library import OpenServer
from recollect_server.stores.valkey._target import Target, Transport


def open_server(target: Target, options: dict[str, Any]) -> OpenServer:
    """Return a client with a pool of connections, none of them opened yet."""
    connection: Any = {
        Transport.TCP: redis_asyncio.Connection,
        Transport.TLS: redis_asyncio.SSLConnection,
        Transport.UNIX: redis_asyncio.UnixDomainSocketConnection,
    }[target.transport]
    pool: Any = redis_asyncio.ConnectionPool(
        connection_class=connection, retry=Retry(NoBackoff(), 0), driver_info=None, **options
    )
    return OpenServer(
        server=redis_asyncio.Redis.from_pool(pool),
        failure=exceptions.RedisError,
        broken=exceptions.ConnectionError,
        no_script=exceptions.NoScriptError,
    )
