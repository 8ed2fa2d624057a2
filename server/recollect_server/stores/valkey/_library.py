"""What redis-py and valkey-py have in common here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

Words = tuple[str | bytes | int, ...]
Pack = Callable[[Words], bytes]


class Connection(Protocol):
    """A connection of `redis.asyncio` or `valkey.asyncio`."""

    async def connect(self) -> None:
        """Open it, with what the options ask for: TLS, credentials, a database."""

    async def send_packed_command(
        self, command: Iterable[bytes], check_health: bool = True
    ) -> None:
        """Write commands, and wait where too much is yet to be sent."""

    async def read_response(self) -> Any:
        """Return the next answer, or raise the refusal that it is."""

    async def disconnect(self, nowait: bool = False) -> None:
        """Close it."""


class Server(Protocol):
    """`redis.asyncio.Redis` or `valkey.asyncio.Valkey`."""

    async def execute_command(self, *args: Any) -> Any:
        """Send a command and return its answer."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Errors:
    """The names a library has for failures.

    Attributes:
        failure: the base of all of them.
        broken: a connection broke.
        refusal: the base of what a server answers instead of a result; the rest are of its kind.
        forbidden: its access rules do not allow a command, a key or a channel.
        no_script: the server does not know a script's digest.
        moved: another node has the slot; it has a `host` and a `port`, as `ask` has.
        ask: another node may have the key; a kind of which `moved` is one.
        later: the slot is being moved or has no node; the same again may work soon.
    """

    failure: type[Exception]
    broken: type[Exception]
    refusal: type[Exception]
    forbidden: type[Exception]
    no_script: type[Exception]
    moved: type[Exception]
    ask: type[Exception]
    later: tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Driver:
    """A library, as it reaches servers by one transport.

    Attributes:
        connection: takes the options of a connection and returns one that is yet to be opened.
        open: takes the same options and returns a client with a pool of such connections.
        pack: returns the bytes of a command; the libraries' parsers have it, in C.
    """

    connection: Callable[[dict[str, Any]], Connection]
    open: Callable[[dict[str, Any]], Server]
    pack: Pack
    errors: Errors


def driver_of(
    client: Any,
    pool: Any,
    connection: Any,
    fixed: dict[str, Any],
    pack: Pack,
    exceptions: Any,
    failure: Any,
) -> Driver:
    """Return a library's way to reach servers.

    Args:
        client, pool, connection: the library's classes.
        fixed: options of every connection.
        pack: see `Driver`.
        exceptions: the library's module of them.
        failure: the base of them.
    """
    return Driver(
        connection=lambda options: connection(**fixed, **options),
        open=lambda options: client.from_pool(
            pool(connection_class=connection, **fixed, **options)
        ),
        pack=pack,
        errors=Errors(
            failure=failure,
            broken=exceptions.ConnectionError,
            refusal=exceptions.ResponseError,
            forbidden=exceptions.NoPermissionError,
            no_script=exceptions.NoScriptError,
            moved=exceptions.MovedError,
            ask=exceptions.AskError,
            later=(
                exceptions.TryAgainError,
                exceptions.ClusterDownError,
                exceptions.MasterDownError,
            ),
        ),
    )
