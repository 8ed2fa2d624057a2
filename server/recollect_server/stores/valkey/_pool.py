"""One server and its connections."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from recollect_server.stores.valkey._library import Server


class Route(Protocol):
    """Brings a command to the server that has the key."""

    async def send(self, key: str | None, *command: str | bytes | int) -> Any:
        """Return the answer to a command, on a key or on none.

        Raises:
            Exception: the library's, or an OSError when there is no server to send it to.
        """

    def place(self, key: str | None) -> str:
        """Return the address, fit for logs, where a command on this key would be sent."""

    def places(self) -> Collection[str]:
        """Return the addresses of all servers that have keys."""

    async def nodes(self) -> Sequence["Route"]:
        """Return a route to each server that has keys."""

    async def close(self) -> None:
        """Close all connections."""


class Pool:
    """A `Route` to one server; calls beyond its connections wait for their turn."""

    def __init__(self, server: Server, address: str, max_connections: int) -> None:
        self._server = server
        self._address = address
        # The libraries' pools refuse a call too many; this makes it wait instead.
        self._turns = asyncio.Semaphore(max_connections)

    async def send(self, key: str | None, *command: str | bytes | int) -> Any:
        """Return the answer of the server, which has every key."""
        async with self._turns:
            return await self._server.execute_command(*command)

    async def send_asking(self, *command: str | bytes | int) -> Any:
        """Return the answer to a command that an ASK redirected here."""
        # ASKING holds for the next command of its connection only.
        async with self._turns, self._server.client() as connection:
            await connection.execute_command("ASKING")
            return await connection.execute_command(*command)

    def place(self, key: str | None) -> str:
        """Return the server's address."""
        return self._address

    def places(self) -> Collection[str]:
        """Return the server's address alone."""
        return (self._address,)

    async def nodes(self) -> Sequence[Route]:
        """Return this one alone."""
        return (self,)

    async def close(self) -> None:
        """Close all connections."""
        await self._server.aclose()
