"""One small client for Valkey and Redis, whichever library speaks to the server."""

import hashlib
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog

from recollect_server.errors import Reason, Unavailable
from recollect_server.stores.valkey._cluster import Address, Cluster
from recollect_server.stores.valkey._forbidden import Forbidden
from recollect_server.stores.valkey._library import Driver, Errors
from recollect_server.stores.valkey._line import Line, Route
from recollect_server.stores.valkey._target import Library, Target, Transport, parse_target
from recollect_server.stores.valkey.messenger import Messenger

log = structlog.get_logger("recollect.valkey")

RETRY_AFTER_SECONDS = 1.0

_UNDONE = "the Valkey or Redis server did not carry out the command"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script; its keys must lie in one slot, and running it twice must do no harm."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # SHA-1 is the server's name for a script, not a safeguard.
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


class Refused(Unavailable):
    """The server answered with an error.

    Attributes:
        text: its own, which stays in this process.
        forbidden: whether it is for want of a permission.
    """

    def __init__(self, text: str, *, forbidden: bool = False) -> None:
        super().__init__(Reason.STORE_UNAVAILABLE, _UNDONE, RETRY_AFTER_SECONDS)
        self.text = text
        self.forbidden = forbidden

    @property
    def wrong_type(self) -> bool:
        """Whether the key holds another kind of value."""
        return self.text.startswith("WRONGTYPE")


class Client(Protocol):
    """What the adapters need of Valkey or Redis; values are bytes, never decoded.

    Every method but `close` raises `Unavailable` with STORE_UNAVAILABLE when the server does not
    do what it was asked within the command timeout. A command whose connection breaks is sent a
    second time, so the server may run it twice.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None."""

    async def set(self, key: str, value: bytes, *, px: int | None = None, nx: bool = False) -> bool:
        """Set a value; False if `nx` is asked for and the key exists.

        Args:
            px: milliseconds after which the key expires, at least 1; None for never.
        """

    async def delete(self, *keys: str) -> int:
        """Remove keys of one slot and return how many there were."""

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[bytes | int]) -> Any:
        """Run a script by its digest, or by its source when the server does not know it yet."""

    async def command(self, key: str | None, *words: str | bytes | int) -> Any:
        """Return the answer to a command on a key, or on none; it may be sent twice.

        Raises:
            Refused: the answer is an error.
        """

    def scan(self, pattern: str) -> AsyncGenerator[list[str]]:
        """Yield the keys that fit a pattern, in lists, of all nodes; some may come twice.

        Every key that is there from the beginning to the end comes.
        """

    async def ping(self) -> None:
        """Return when the server answers."""

    def place(self, key: str | None) -> str:
        """Return the address, fit for logs, of the server that has a key."""

    @property
    def clustered(self) -> bool:
        """Whether keys are spread over the nodes of a cluster."""

    async def close(self) -> None:
        """Close all connections."""


def connect(
    url: str,
    *,
    command_timeout: float = 1.0,
    probe_timeout: float = 0.5,
) -> Client:
    """Return a client for the server or cluster at `url`; connections are opened when needed.

    `redis://`, `rediss://` (TLS) and `unix://` are served by redis-py; `valkey://`, `valkeys://`
    (TLS) and `valkey+unix://` by valkey-py. Forms: `SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/DB]`
    and `SCHEME://[USER[:PASSWORD]@]/PATH[?db=DB]`. TLS takes the options `ssl_ca_certs`,
    `ssl_certfile`, `ssl_keyfile` (paths), `ssl_cert_reqs` (`required` or `none`) and
    `ssl_check_hostname` (`true` or `false`).

    With `?cluster=true` the host is any node of a cluster, by TCP or TLS; the others are found
    through it, take the same credentials, and serve as well when it is down. A cluster has no
    database but 0.

    Args:
        command_timeout: seconds a server may be silent before the calls to it fail, those for
            which it is yet to be connected included; in a cluster a whole call takes no longer.
        probe_timeout: seconds in which a node of a cluster must tell where the slots are before
            another one is asked.

    Raises:
        ValueError: the URL is not one of these forms.
    """
    target = parse_target(url)
    by = _driver(target)
    route = _route(target, by, _options(target), command_timeout, probe_timeout)
    return _RoutedClient(target, route, by.errors)


def open_messenger(url: str) -> Messenger:
    """Return a messenger for the server or cluster at `url`; see `connect` for its forms."""
    target = parse_target(url)
    by = _driver(target)
    own = {"max_connections": 4, "socket_connect_timeout": 0.5}
    return Messenger(by.open(_options(target) | own), by.errors, target.address)


def _driver(target: Target) -> Driver:
    # Importing a library takes 0.2 s, so only the one that is needed is.
    if target.library is Library.REDIS:
        from recollect_server.stores.valkey._redis_py import driver
    else:
        from recollect_server.stores.valkey._valkey_py import driver
    return driver(target.transport)


def _options(target: Target) -> dict[str, Any]:
    options: dict[str, Any] = {
        **target.arguments,
        # How long it may take is watched for all that wait, see `Line`.
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "protocol": 2,
    }
    if target.transport is not Transport.UNIX:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    return options


def _route(
    target: Target, by: Driver, options: dict[str, Any], timeout: float, probe_timeout: float
) -> Route:
    if not target.cluster:
        return Line(partial(by.connection, options), target.address, by, timeout)

    def open_node(address: Address) -> Line:
        host, port = address
        make = partial(by.connection, {**options, "host": host, "port": port})
        return Line(make, target.label(address), by, timeout)

    seed = (options["host"], options["port"])
    return Cluster(seed, open_node, by.errors, target.label, timeout, probe_timeout)


def _keepalive() -> dict[int, int]:
    """Probe after 30 s of silence, so that no firewall forgets an idle connection unnoticed."""
    wanted = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _kind(error: Exception) -> str:
    """Name a failure without its text: the server's error code if there is one, or the class."""
    code = re.match(r"[A-Z]{2,}(?= )", str(error))
    return f"{type(error).__name__} {code[0]}" if code else type(error).__name__


class _RoutedClient:
    """`Client` by either library, on one server or a cluster."""

    def __init__(self, target: Target, route: Route, errors: Errors) -> None:
        self._address = target.address
        self._route = route
        self._broken = errors.broken
        self._refusal = errors.refusal
        self._no_script = errors.no_script
        self._clustered = target.cluster
        self._failures = (errors.failure, OSError, TimeoutError)
        self._failing: set[str] = set()
        self._forbidden = Forbidden(errors.forbidden)

    def __repr__(self) -> str:
        return f"<Client of {self._address}>"

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._call(key, "GET", key)
        return value

    async def set(self, key: str, value: bytes, *, px: int | None = None, nx: bool = False) -> bool:
        expiry = () if px is None else ("PX", px)
        return bool(await self._call(key, "SET", key, value, *expiry, *(("NX",) if nx else ())))

    async def delete(self, *keys: str) -> int:
        return int(await self._call(next(iter(keys), None), "DEL", *keys))

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[bytes | int]) -> Any:
        key = next(iter(keys), None)
        try:
            return await self._call(key, "EVALSHA", script.sha, len(keys), *keys, *args)
        except self._no_script:
            return await self._call(key, "EVAL", script.source, len(keys), *keys, *args)

    def command(self, key: str | None, *words: str | bytes | int) -> Coroutine[Any, Any, Any]:
        return self._call(key, *words, refusable=True)

    async def scan(self, pattern: str) -> AsyncGenerator[list[str]]:
        for node in await self._mapped(None, self._route.nodes):
            cursor = 0
            while True:
                command = partial(node.send, None, "SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                answer, keys = await self._mapped(None, command)
                if keys:
                    yield [key.decode() for key in keys]
                cursor = int(answer)
                if not cursor:
                    break

    async def ping(self) -> None:
        await self._call(None, "PING")

    def place(self, key: str | None) -> str:
        return self._route.place(key)

    @property
    def clustered(self) -> bool:
        return self._clustered

    async def close(self) -> None:
        await self._route.close()

    def _call(
        self, key: str | None, *command: str | bytes | int, refusable: bool = False
    ) -> Coroutine[Any, Any, Any]:
        """Send a command and return its answer."""
        return self._mapped(key, partial(self._route.send, key, *command), refusable)

    async def _mapped(
        self, key: str | None, ask: Callable[[], Awaitable[Any]], refusable: bool = False
    ) -> Any:
        """Return what is answered; the one place where failures are mapped."""
        try:
            try:
                answer = await ask()
            except self._broken:
                # The connection may have died unnoticed, with a restart of the server.
                answer = await ask()
        except self._no_script:
            raise
        except self._failures as error:
            forbidden = error in self._forbidden
            if forbidden:
                self._forbidden.tell(self._route.place(key), error)
            if refusable and isinstance(error, self._refusal):
                raise Refused(str(error), forbidden=forbidden) from None
            if not forbidden:
                self._log_failure(self._route.place(key), error)
            raise Unavailable(Reason.STORE_UNAVAILABLE, _UNDONE, RETRY_AFTER_SECONDS) from None
        if self._failing:
            self._log_recovery(self._route.place(key))
        return answer

    def _log_failure(self, place: str, error: Exception) -> None:
        if place not in self._failing:
            log.warning("store unavailable", store=place, error=_kind(error))
        self._failing.add(place)

    def _log_recovery(self, place: str) -> None:
        """Log the end of an outage: the server did what it was asked, or others took over."""
        left = self._failing.intersection(self._route.places()) - {place}
        for recovered in self._failing - left:
            log.info("store available again", store=recovered)
        self._failing = left
