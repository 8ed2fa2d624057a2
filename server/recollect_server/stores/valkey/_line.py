"""One server and the connection to it that all calls share."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import Context
from typing import Any, Protocol

import structlog

from recollect_server.stores.valkey._library import Connection, Driver, Words
from recollect_server.stores.valkey._patience import SLICES, within

log = structlog.get_logger("recollect.valkey")

MOST_WAITING = 10_000
"""Commands without an answer: more than a process asks in the second that it waits for one."""


class TooManyWaiting(TimeoutError):
    """So many commands wait for a slow server that another would have no answer in time."""


class Route(Protocol):
    """Brings a command to the server that has the key."""

    def send(self, key: str | None, *command: str | bytes | int) -> Awaitable[Any]:
        """Return the answer to a command, on a key or on none.

        Raises:
            Exception: the library's, or an OSError when there is no server to send it to; a
                TimeoutError is one, and a TooManyWaiting.
        """

    def place(self, key: str | None) -> str:
        """Return the address, fit for logs, where a command on this key would be sent."""

    def places(self) -> Collection[str]:
        """Return the addresses of all servers that have keys."""

    async def nodes(self) -> Sequence["Route"]:
        """Return a route to each server that has keys."""

    async def close(self) -> None:
        """Close all connections."""


class Line:
    """A `Route` to one server, by one connection that is made when first needed.

    Commands are sent as they come, ahead of the answers to those before them: a call needs no
    connection of its own, and those of one turn of the event loop share its system calls.

    Args:
        make: returns a connection that is yet to be opened.
        address: of the server, fit for logs.
        timeout: seconds the server may be silent, and opening the connection may take.
    """

    def __init__(
        self, make: Callable[[], Connection], address: str, by: Driver, timeout: float
    ) -> None:
        self._make = make
        self._address = address
        self._by = by
        self._timeout = timeout
        self._exchange: _Exchange | None = None
        self._opening: asyncio.Task[_Exchange] | None = None
        self._closed = False

    def send(self, key: str | None, *command: str | bytes | int) -> Awaitable[Any]:
        """Return the answer of the server, which has every key."""
        exchange = self._exchange
        if exchange is None or exchange.ended:
            return self._open_and_send(command)
        return exchange.ask(command)

    async def send_asking(self, *command: str | bytes | int) -> Any:
        """Return the answer to a command that an ASK redirected here."""
        # ASKING holds for the next command of its connection only, and nothing comes between.
        return await (await self._open()).ask(("ASKING",), command)

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
        """Close the connection for good; what waits for an answer fails."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._exchange is not None:
            await self._exchange.close()

    async def _open_and_send(self, command: Words) -> Any:
        return await (await self._open()).ask(command)

    async def _open(self) -> "_Exchange":
        """Return what is open, or open it, once for all who wait for it."""
        if self._exchange is not None and not self._exchange.ended:
            return self._exchange
        if self._closed:
            raise self._by.errors.broken("the connection was closed")
        if self._opening is None:
            # In a context of its own, so that it does not keep what the first call knows.
            self._opening = asyncio.create_task(self._connect(), context=Context())
            self._opening.add_done_callback(_look_at)
        opening = self._opening
        await asyncio.wait([opening])  # who gives up leaves it to the others
        if opening.cancelled():
            raise self._by.errors.broken("the connection was closed")
        return opening.result()

    async def _connect(self) -> "_Exchange":
        connection = self._make()
        try:
            await within(self._timeout, connection.connect())
            self._exchange = _Exchange(connection, self._by, self._timeout)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._opening = None
        return self._exchange


def _look_at(opening: "asyncio.Task[_Exchange]") -> None:
    """Keep asyncio from reporting a failure that nobody waits for any more."""
    if not opening.cancelled():
        opening.exception()


class _Exchange:
    """Commands and answers of an open connection, until it breaks or the server is silent.

    Attributes:
        ended: whether it did; then `ask` fails.
    """

    def __init__(self, connection: Connection, by: Driver, timeout: float) -> None:
        self.ended = False
        self._connection = connection
        self._pack = by.pack
        self._errors = by.errors
        self._loop = asyncio.get_running_loop()
        self._slice_seconds = timeout / SLICES
        self._slice = 0
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0  # in which slice the last answer came
        self._silent = False
        # In the order of the commands: what waits for the answer, and the slice it began in.
        self._waiting: deque[tuple[asyncio.Future[Any], int]] = deque()
        self._nobody: asyncio.Future[Any] = self._loop.create_future()
        self._nobody.cancel()
        self._unsent: list[bytes] = []
        self._more = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())

    def ask(self, *commands: Words) -> asyncio.Future[Any]:
        """Send commands with nothing between them; the answer to the last one is to come."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.ended:
            answer.set_exception(self._broken())
            return answer
        if len(self._waiting) >= MOST_WAITING:
            answer.set_exception(TooManyWaiting())
            return answer
        self._unsent += [self._pack(command) for command in commands]
        for _ in commands[1:]:
            self._waiting.append((self._nobody, self._slice))
        self._waiting.append((answer, self._slice))
        if self._timer is None:
            self._timer = self._loop.call_later(self._slice_seconds, self._next_slice)
        self._more.set()
        return answer

    async def close(self) -> None:
        """Close the connection; what waits for an answer fails."""
        self._stop()
        await asyncio.wait([self._reader, self._writer])
        # A task that was ended before its first step has done nothing of this.
        self._end(self._broken())
        await self._connection.disconnect(nowait=True)

    def _stop(self) -> None:
        self.ended = True
        self._reader.cancel()
        self._writer.cancel()

    async def _write(self) -> None:
        """Send what the calls of a turn of the event loop ask, at once."""
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                commands, self._unsent = b"".join(self._unsent), []
                await self._connection.send_packed_command([commands], check_health=False)
        except (self._errors.failure, OSError):
            self._stop()

    async def _read(self) -> None:
        failure = self._broken()
        try:
            while True:
                try:
                    answer = await self._connection.read_response()
                except self._errors.refusal as refusal:
                    if not self._waiting:  # as a server does that takes no connections
                        failure = self._errors.broken(str(refusal))
                        break
                    self._answer(refusal=refusal)
                else:
                    self._answer(answer)
        except (self._errors.failure, OSError) as error:
            failure = error
        except Exception:
            log.exception("a connection to Valkey or Redis ended")
        finally:
            self._end(failure)
            # Before anything is awaited: the library would open the connection again to write.
            self._writer.cancel()
            await self._connection.disconnect(nowait=True)

    def _answer(self, answer: Any = None, refusal: Exception | None = None) -> None:
        waiting, _ = self._waiting.popleft()
        self._heard = self._slice
        if waiting.done():
            return  # nobody wants it any more
        if refusal is None:
            waiting.set_result(answer)
        else:
            waiting.set_exception(refusal)

    def _end(self, failure: Exception) -> None:
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        for waiting, _ in self._waiting:
            if not waiting.done():
                waiting.set_exception(TimeoutError() if self._silent else failure)
        self._waiting.clear()

    def _next_slice(self) -> None:
        self._slice += 1
        self._timer = None
        if self._waiting:
            self._timer = self._loop.call_later(self._slice_seconds, self._next_slice)
            began = max(self._waiting[0][1], self._heard)
            if self._slice - began > SLICES:
                self._silent = True
                self._stop()

    def _broken(self) -> Exception:
        return self._errors.broken("the connection ended before the answer came")
