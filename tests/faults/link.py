"""A TCP connection's way to a store, which can be made slow."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

CHUNK = 65_536


class Link:
    """Listens on a port of loopback and passes everything on, in `with`.

    Args:
        target: a port of loopback, or the path of a socket.

    Attributes:
        delay: seconds that what goes to the store is on its way, and so each round trip longer.
    """

    def __init__(self, target: int | Path) -> None:
        self.delay = 0.0
        self.port = 0
        self._target = target
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._pass_on(reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            if isinstance(self._target, Path):
                there, back = await asyncio.open_unix_connection(str(self._target))
            else:
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
            with contextlib.closing(back):
                ways = [
                    asyncio.ensure_future(self._carry(reader, back, slow=True)),
                    asyncio.ensure_future(self._carry(there, writer, slow=False)),
                ]
                try:
                    # Where one side ends, so does the other.
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, slow: bool
    ) -> None:
        """Pass on one direction. Each piece waits for itself alone: it is slow, not narrow."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            data = b"x"
            while data:
                try:
                    data = await source.read(CHUNK)
                except OSError:
                    data = b""
                due = time.monotonic() + (self.delay if slow else 0.0)
                pieces.put_nowait((due, data))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, data = await pieces.get()
                if not data:
                    return
                if (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                sink.write(data)
                await sink.drain()
        finally:
            reading.cancel()


def through(url: str, link: Link) -> str:
    """Return a database's URL by a link instead of PostgreSQL's socket."""
    name = urlsplit(url).path.removeprefix("/")
    return f"postgresql://postgres@127.0.0.1:{link.port}/{name}"
