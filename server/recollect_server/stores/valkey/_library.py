"""What redis-py and valkey-py have in common here."""

from dataclasses import dataclass
from typing import Any, Protocol


class Server(Protocol):
    """`redis.asyncio.Redis` or `valkey.asyncio.Valkey`."""

    async def execute_command(self, *args: Any) -> Any:
        """Send a command and return its answer."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class OpenServer:
    """A library's client, and the names it has for failures.

    Attributes:
        failure: the base of all of them.
        broken: a connection broke.
        no_script: the server does not know a script's digest.
    """

    server: Server
    failure: type[Exception]
    broken: type[Exception]
    no_script: type[Exception]
