"""Publish and subscribe, on connections of their own.

In a cluster any node will do: a message published on one reaches the subscribers of all.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import structlog

from recollect_server.stores.valkey._forbidden import Forbidden
from recollect_server.stores.valkey._library import Errors, Server

log = structlog.get_logger("recollect.messenger")

IDLE_SECONDS = 30.0
"""How long a subscription is silent before the connection is tried."""

RETRY_SECONDS = 1.0


class Messenger:
    """One server's channels.

    Args:
        address: of the server, fit for logs.
    """

    def __init__(self, server: Server, errors: Errors, address: str) -> None:
        self._server: Any = server
        self._address = address
        self._forbidden = Forbidden(errors.forbidden)
        self._failures: tuple[type[Exception], ...] = (errors.failure, OSError, TimeoutError)

    async def publish(self, channel: str, data: bytes) -> None:
        """Send a message to whoever listens; one that an outage meets is lost."""
        try:
            await self._server.execute_command("PUBLISH", channel, data)
        except self._failures as error:
            self._tell("a message was not sent", error)

    async def hear(self, channel: str, take: Callable[[bytes], None]) -> None:
        """Take the channel's messages until cancelled; an outage is waited out."""
        while True:
            try:
                async for data in self._listen(channel):
                    take(data)
            except self._failures as error:
                self._tell("messages are not heard", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, channel: str) -> AsyncGenerator[bytes]:
        async with self._server.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(channel)
            while True:
                message = await subscription.get_message(timeout=IDLE_SECONDS)
                if message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    yield message["data"]

    def _tell(self, event: str, error: Exception) -> None:
        if error in self._forbidden:
            self._forbidden.tell(self._address, error)
        else:
            log.debug(event, error=type(error).__name__)

    async def close(self) -> None:
        """Close all connections."""
        await self._server.aclose()
