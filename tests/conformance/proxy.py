"""A TCP proxy that reads HTTP/2 and breaks gRPC calls at points a scenario names.

It records what clients send: the tries of a call, their metadata and their messages.
"""

import asyncio
import base64
import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from google.rpc import status_pb2
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    RstStreamFrame,
)
from tests.listener import Listener, either_ends

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_TABLE_BYTES = 1 << 20
LINGER_SECONDS = 5.0
CANCEL = 8
"""HTTP/2's error code."""


@dataclass
class Fault:
    """What to do to the next calls.

    Args:
        method: its name, as in `Recall`; "" for any. Not used at `connect`.
        at: `connect`, when a connection is made; `request`, when the call arrives, which the server
            then never sees; `response`, when the server begins to answer, which the client then
            never sees; `message`, when `after` messages of a stream have gone to the client, or
            its headers alone where that is 0.
        do: `drop` the connection; `hold` the call for ever; at `request` also `answer` with
            `status`, or `cancel` the call, as a server that shuts down does with one that it has
            not begun.
        times: how often.
        away: seconds after a `drop` in which connections are refused, as by a server that restarts.
    """

    method: str = ""
    at: str = "request"
    do: str = "drop"
    after: int = 0
    times: int = 1
    away: float = 0.0
    status: status_pb2.Status | None = None

    def takes(self, at: str, method: str = "", count: int = 0) -> bool:
        """Whether it strikes here; counts the strike."""
        if self.times < 1 or self.at != at or self.method not in ("", method):
            return False
        if at == "message" and count != self.after:
            return False
        self.times -= 1
        return True


@dataclass
class Sent:
    """One try of a call, as the client sent it.

    Attributes:
    """

    method: str
    metadata: dict[str, str]
    data: bytearray = field(default_factory=bytearray)

    def messages(self) -> Iterator[bytes]:
        """Yield the complete messages."""
        yield from _messages(self.data)


def _messages(data: bytearray) -> Iterator[bytes]:
    start = 0
    while len(data) - start >= 5:
        (length,) = struct.unpack_from(">I", data, start + 1)
        if len(data) - start - 5 < length:
            return
        yield bytes(data[start + 5 : start + 5 + length])
        start += 5 + length


class Proxy(Listener):
    """Stands before a server of plain text, HOST:PORT, from `with` on."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._host, _, port = target.rpartition(":")
        self._target_port = int(port)
        self.faults: list[Fault] = []
        self.sent: list[Sent] = []
        self._coming_back: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT of the proxy."""
        return f"127.0.0.1:{self.port}"

    def strikes(self, at: str, method: str = "", count: int = 0) -> Fault | None:
        """Return the fault that strikes here, if one does."""
        return next((f for f in self.faults if f.takes(at, method, count)), None)

    def drop(self, fault: Fault) -> NoReturn:
        """End a connection as a fault says."""
        if fault.away:
            self.refuse()
            self._coming_back = asyncio.create_task(self._come_back(fault.away))
        raise _Dropped

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    async def _close(self) -> None:
        if self._coming_back is not None:
            self._coming_back.cancel()
            await asyncio.gather(self._coming_back, return_exceptions=True)
        await super()._close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See `Listener`."""
        if self.strikes("connect"):
            return
        upstream = await asyncio.open_connection(self._host, self._target_port)
        try:
            await _Connection(self, (reader, writer), upstream).run()
        finally:
            upstream[1].transport.abort()


class _Dropped(Exception):
    """A fault ends the connection."""


class _Connection:
    """One connection of a client, and the one to the server behind it."""

    def __init__(self, proxy: Proxy, client: Any, server: Any) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._decoder, self._encoder = Decoder(), Encoder()
        self._decoder.max_allowed_table_size = MOST_TABLE_BYTES
        self._sent: dict[int, Sent] = {}
        self._received: dict[int, bytearray] = {}
        self._kept: set[int] = set()  # Streams that the server never sees.
        self._held: set[int] = set()  # Streams whose answers the client never sees.

    async def run(self) -> None:
        """Copy both ways until either ends or a fault strikes."""
        await either_ends(self._upwards(), self._downwards())
        await self._hang_up()

    async def _hang_up(self) -> None:
        """Say the end, but let what was said before arrive: closing at once would take it back."""
        with contextlib.suppress(OSError, TimeoutError):
            self._to_client.write_eof()
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._from_client.read(65536):
                    pass

    async def _upwards(self) -> None:
        self._to_server.write(await self._from_client.readexactly(len(PREFACE)))
        while True:
            header, body, frame = await _read(self._from_client)
            stream = frame.stream_id
            if isinstance(frame, HeadersFrame):
                block = await self._block(frame)
                if stream in self._sent or self._begins(stream, block):
                    self._forward_headers(stream, frame, block)
            elif stream not in self._kept:
                if isinstance(frame, DataFrame):
                    self._sent[stream].data += frame.data
                self._to_server.write(header + body)
            elif isinstance(frame, DataFrame):
                self._sent[stream].data += frame.data
            await self._to_server.drain()
            await self._to_client.drain()

    async def _block(self, frame: HeadersFrame) -> list[tuple[str, str]]:
        data, flags = frame.data, frame.flags
        while "END_HEADERS" not in flags:
            _, _, more = await _read(self._from_client)
            assert isinstance(more, ContinuationFrame)
            data, flags = data + more.data, more.flags
        return [(str(name), str(value)) for name, value in self._decoder.decode(data)]

    def _begins(self, stream: int, block: list[tuple[str, str]]) -> bool:
        """Record a call and let a fault strike; return whether the server sees it."""
        metadata = dict(block)
        method = metadata[":path"].rpartition("/")[2]
        sent = self._sent[stream] = Sent(method, metadata)
        self._proxy.sent.append(sent)
        fault = self._proxy.strikes("request", method)
        if fault is None:
            return True
        if fault.do == "drop":
            self._proxy.drop(fault)
        self._kept.add(stream)
        if fault.do == "answer":
            assert fault.status is not None
            self._to_client.write(_trailers_only(stream, fault.status))
        elif fault.do == "cancel":
            self._to_client.write(RstStreamFrame(stream, error_code=CANCEL).serialize())
        return False

    def _forward_headers(
        self, stream: int, frame: HeadersFrame, block: list[tuple[str, str]]
    ) -> None:
        copy = HeadersFrame(stream, self._encoder.encode(block))
        copy.flags.add("END_HEADERS")
        if "END_STREAM" in frame.flags:
            copy.flags.add("END_STREAM")
        self._to_server.write(copy.serialize())

    async def _downwards(self) -> None:
        while True:
            header, body, frame = await _read(self._from_server)
            stream = frame.stream_id
            if isinstance(frame, HeadersFrame | DataFrame) and stream in self._sent:
                self._answers(stream, frame)
            if stream not in self._held:
                self._to_client.write(header + body)
                await self._to_client.drain()
            if isinstance(frame, DataFrame):
                self._count(stream, frame)
            elif isinstance(frame, HeadersFrame) and "END_STREAM" not in frame.flags:
                self._strike(stream, 0)

    def _answers(self, stream: int, frame: Frame) -> None:
        if stream in self._received or stream in self._held:
            return
        fault = self._proxy.strikes("response", self._sent[stream].method)
        if fault is not None and fault.do == "drop":
            self._proxy.drop(fault)
        if fault is not None:
            self._held.add(stream)
        self._received[stream] = bytearray()

    def _count(self, stream: int, frame: DataFrame) -> None:
        received = self._received[stream]
        before = sum(1 for _ in _messages(received))
        received += frame.data
        for count in range(before + 1, sum(1 for _ in _messages(received)) + 1):
            self._strike(stream, count)

    def _strike(self, stream: int, count: int) -> None:
        fault = self._proxy.strikes("message", self._sent[stream].method, count)
        if fault is not None:
            self._proxy.drop(fault)


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes, Frame]:
    header = await reader.readexactly(9)
    frame, length = Frame.parse_frame_header(memoryview(header))
    body = await reader.readexactly(length)
    frame.parse_body(memoryview(body))
    return header, body, frame


def _trailers_only(stream: int, status: status_pb2.Status) -> bytes:
    """Return a whole answer in one frame that leaves the connection's header table as it is."""
    fields = {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": str(status.code),
        "grpc-message": status.message,
        "grpc-status-details-bin": base64.b64encode(status.SerializeToString()).decode(),
    }
    block = Encoder().encode([NeverIndexedHeaderTuple(*pair) for pair in fields.items()])
    frame = HeadersFrame(stream, block)
    frame.flags |= {"END_HEADERS", "END_STREAM"}
    return frame.serialize()
