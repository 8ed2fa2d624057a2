"""A TCP connection's way to a store, which can be made slow."""

import asyncio
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.listener import Listener, either_ends

CHUNK = 65_536


class Link(Listener):
    """Listens on a port of loopback and passes everything on, in `with`.

    Args:
        target: a port of loopback, or the path of a socket.

    Attributes:
        delay: seconds that what goes to the store is on its way, and so each round trip longer.
    """

    def __init__(self, target: int | Path) -> None:
        super().__init__()
        self.delay = 0.0
        self._target = target

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See `Listener`."""
        if isinstance(self._target, Path):
            there, back = await asyncio.open_unix_connection(str(self._target))
        else:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await either_ends(
                self._carry(reader, back, slow=True), self._carry(there, writer, slow=False)
            )
        finally:
            back.transport.abort()

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
