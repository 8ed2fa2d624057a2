"""redis-py."""

from typing import Any

from redis import asyncio as redis_asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from recollect_server.stores.valkey._library import Driver, Errors
from recollect_server.stores.valkey._target import Transport

_CONNECTIONS: dict[Transport, Any] = {
    Transport.TCP: redis_asyncio.Connection,
    Transport.TLS: redis_asyncio.SSLConnection,
    Transport.UNIX: redis_asyncio.UnixDomainSocketConnection,
}


def driver(transport: Transport) -> Driver:
    """Return the library's way to reach a server."""

    def open_server(options: dict[str, Any]) -> redis_asyncio.Redis:
        pool: Any = redis_asyncio.ConnectionPool(
            connection_class=_CONNECTIONS[transport],
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
            **options,
        )
        return redis_asyncio.Redis.from_pool(pool)

    return Driver(open_server, ERRORS)


ERRORS = Errors(
    failure=exceptions.RedisError,
    broken=exceptions.ConnectionError,
    refusal=exceptions.ResponseError,
    no_script=exceptions.NoScriptError,
    moved=exceptions.MovedError,
    ask=exceptions.AskError,
    later=(exceptions.TryAgainError, exceptions.ClusterDownError, exceptions.MasterDownError),
)
