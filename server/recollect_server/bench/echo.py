"""The yardstick: a bare grpc.aio server on uvloop that answers with bytes it was given before.

It does nothing per call but receive and send, so the rate of a method beside it is what everything
else costs: decoding, checks, stores and encoding. Run as `python -m recollect_server.bench.echo`.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

if TYPE_CHECKING:  # generic in the types' package only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

SERVICE = "/recollect.bench.Echo"
KEEP = f"{SERVICE}/Keep"
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
]

Response = TypeVar("Response", bound=Message)


class Kept(msgspec.Struct, array_like=True):
    """What Keep is sent, as msgpack: the answers of the method `name` from now on."""

    name: str
    answers: list[bytes]
    stream: bool


class EchoHandlers(grpc.GenericRpcHandler):
    """Keep, and the methods that it made."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {KEEP: grpc.unary_unary_rpc_method_handler(self._keep)}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """See `grpc.GenericRpcHandler`."""
        return self._handlers.get(handler_call_details.method)

    async def _keep(self, request: bytes, context: "Context") -> bytes:
        kept = msgspec.msgpack.decode(request, type=Kept)

        async def one(request: bytes, context: "Context") -> bytes:
            return kept.answers[0]

        async def many(request: bytes, context: "Context") -> AsyncIterator[bytes]:
            for answer in kept.answers:
                yield answer

        self._handlers[f"{SERVICE}/{kept.name}"] = (
            grpc.unary_stream_rpc_method_handler(many)
            if kept.stream
            else grpc.unary_unary_rpc_method_handler(one)
        )
        return b""


class EchoClient:
    """Makes methods of an echo server that take and return the messages of a real method.

    The client's work is the same for both: it writes the same requests and parses the same
    responses, so a difference in rate is the servers'.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def unary(self, name: str, answer: Response) -> Callable[..., Awaitable[Response]]:
        """Return a method that answers with `answer`."""
        await self._keep(Kept(name, [answer.SerializeToString()], stream=False))
        return self._channel.unary_unary(
            f"{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=type(answer).FromString,
        )

    async def stream(
        self, name: str, answers: Sequence[Response]
    ) -> Callable[..., AsyncIterator[Response]]:
        """Return a method that streams `answers`, at least one."""
        kept = Kept(name, [answer.SerializeToString() for answer in answers], stream=True)
        await self._keep(kept)
        method: Any = self._channel.unary_stream(
            f"{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=type(answers[0]).FromString,
        )
        opened: Callable[..., AsyncIterator[Response]] = method
        return opened

    async def _keep(self, kept: Kept) -> None:
        method: Callable[..., Awaitable[bytes]] = self._channel.unary_unary(KEEP)
        await method(msgspec.msgpack.encode(kept))


async def serve(ready_file: Path) -> None:
    """Serve on a free port of loopback until SIGTERM or SIGINT.

    Args:
        ready_file: gets the address once it is served.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((EchoHandlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    temporary = ready_file.with_suffix(".tmp")
    temporary.write_text(f"127.0.0.1:{port}")
    temporary.replace(ready_file)
    await ended.wait()
    await server.stop(None)


def main() -> None:
    """Run `serve`."""
    parser = argparse.ArgumentParser(description="A bare grpc.aio server to measure against.")
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.ready_file))


if __name__ == "__main__":
    main()
