"""Publish and subscribe, on connections of their own.

In a cluster any node will do: a message published on one reaches the subscribers of all.
"""

from collections.abc import AsyncGenerator
from typing import Any

from recollect_server.stores.valkey._library import Errors, Server

IDLE_SECONDS = 30.0
"""How long a subscription is silent before the connection is tried."""


class Messenger:
    """One server's channels.

    Attributes:
        failures: what the methods raise when the server cannot be reached.
    """

    def __init__(self, server: Server, errors: Errors) -> None:
        self._server: Any = server
        self.failures: tuple[type[Exception], ...] = (errors.failure, OSError, TimeoutError)

    async def publish(self, channel: str, data: bytes) -> None:
        """Send a message to whoever listens."""
        await self._server.execute_command("PUBLISH", channel, data)

    async def listen(self, channel: str) -> AsyncGenerator[bytes]:
        """Yield the channel's messages until the connection breaks."""
        async with self._server.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(channel)
            while True:
                message = await subscription.get_message(timeout=IDLE_SECONDS)
                if message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    yield message["data"]

    async def close(self) -> None:
        """Close all connections."""
        await self._server.aclose()
