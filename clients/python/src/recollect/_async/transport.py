"""Calls over grpc.aio, with errors as exceptions of this package."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from recollect import errors
from recollect._settings import OPTIONS, Settings, Tries

Response = TypeVar("Response", bound=Message)


class AsyncTransport:
    """One channel.

    Args:
        channel: used instead of a new one, and not closed.
    """

    def __init__(self, settings: Settings, channel: grpc.aio.Channel | None) -> None:
        self.settings = settings
        self._owned = channel is None
        self._channel = channel or _open(settings)
        self._methods: dict[str, Callable[..., Any]] = {}
        self._closed = False

    async def unary(
        self, method: str, request: Message, response: type[Response], timeout: float | None
    ) -> Response:
        """Run a unary call, again where the server cannot be reached.

        Args:
            method: as in `MemoryService/Recall`.
            timeout: seconds, None for the client's.
        """
        tries = Tries(self.settings.timeout if timeout is None else timeout)
        while True:
            call = self._method(method, response, self._channel.unary_unary)
            try:
                done: Awaitable[Response] = call(
                    request, timeout=tries.left, metadata=self.settings.metadata
                )
                return await done
            except grpc.aio.AioRpcError as error:
                pause = tries.pause_after(self._failure(error))
            await self.pause(pause)

    async def stream(
        self,
        method: str,
        request: Message,
        response: type[Response],
        timeout: float | None,
        *,
        once: bool = False,
    ) -> AsyncIterator[Response]:
        """Run a streaming call, again until its first response where the server cannot be reached.

        Leaving the iteration early cancels it.

        Args:
            timeout: seconds for the whole stream, None for no bound.
            once: not to be repeated, by a caller who does that.
        """
        tries = Tries(timeout)
        started = False
        while True:
            open_call = self._method(method, response, self._channel.unary_stream)
            call = open_call(request, timeout=tries.left, metadata=self.settings.metadata)
            try:
                async for item in call:
                    started = True
                    yield item
                return
            except grpc.aio.AioRpcError as error:
                failure = self._failure(error)
                if started or once:
                    raise failure from None
                pause = tries.pause_after(failure)
            finally:
                call.cancel()
            await self.pause(pause)

    async def upload(
        self,
        method: str,
        requests: AsyncIterator[Message],
        response: type[Response],
        timeout: float | None,
    ) -> Response:
        """Run a call that streams requests."""
        call = self._method(method, response, self._channel.stream_unary)
        try:
            done: Awaitable[Response] = call(
                requests, timeout=timeout, metadata=self.settings.metadata
            )
            return await done
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the channel."""
        self._closed = True
        if self._owned:
            await self._channel.close()

    def _method(
        self, method: str, response: type[Message], open_method: Callable[..., Any]
    ) -> Callable[..., Any]:
        if self._closed:
            raise errors.Closed
        if method not in self._methods:
            self._methods[method] = open_method(
                f"/recollect.v1.{method}",
                request_serializer=_bytes,
                response_deserializer=response.FromString,
            )
        return self._methods[method]

    def _failure(self, error: grpc.aio.AioRpcError) -> errors.RecollectError:
        if self._closed:
            return errors.Closed()
        trailing = dict(error.trailing_metadata() or ())
        return errors.from_call(error.code(), error.details() or "", trailing)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


def _open(settings: Settings) -> grpc.aio.Channel:
    if settings.credentials is not None:
        return grpc.aio.secure_channel(settings.address, settings.credentials, OPTIONS)
    return grpc.aio.insecure_channel(settings.address, OPTIONS)
