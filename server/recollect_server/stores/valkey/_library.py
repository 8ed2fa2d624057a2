"""What redis-py and valkey-py have in common here."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Server(Protocol):
    """`redis.asyncio.Redis` or `valkey.asyncio.Valkey`."""

    async def execute_command(self, *args: Any) -> Any:
        """Send a command and return its answer."""

    def client(self) -> AbstractAsyncContextManager["Server"]:
        """Return a client of one connection, borrowed from the pool."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Errors:
    """The names a library has for failures.

    Attributes:
        failure: the base of all of them.
        broken: a connection broke.
        refusal: the base of what a server answers instead of a result; the rest are of its kind.
        no_script: the server does not know a script's digest.
        moved: another node has the slot; it has a `host` and a `port`, as `ask` has.
        ask: another node may have the key; a kind of which `moved` is one.
        later: the slot is being moved or has no node; the same again may work soon.
    """

    failure: type[Exception]
    broken: type[Exception]
    refusal: type[Exception]
    no_script: type[Exception]
    moved: type[Exception]
    ask: type[Exception]
    later: tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Driver:
    """A library, as it reaches servers by one transport.

    Attributes:
        open: takes the options of a connection pool and returns a client with it; connections are
            made when first needed.
    """

    open: Callable[[dict[str, Any]], Server]
    errors: Errors
