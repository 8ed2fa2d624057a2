"""Calls over grpc, with errors as exceptions of this package."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from recollect import errors
from recollect._settings import OPTIONS, Settings, Tries

Response = TypeVar("Response", bound=Message)


class Transport:
    """One channel; safe to use from several threads.

    Args:
        channel: used instead of a new one, and not closed.
    """

    def __init__(self, settings: Settings, channel: grpc.Channel | None) -> None:
        self.settings = settings
        self._owned = channel is None
        self._channel = channel or _open(settings)
        self._methods: dict[str, Callable[..., Any]] = {}
        self._closing = threading.Event()

    def unary(
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
                done: Response = call(request, timeout=tries.left, metadata=self.settings.metadata)
                return done
            except grpc.RpcError as error:
                pause = tries.pause_after(self._failure(error))
            self.pause(pause)

    def stream(
        self,
        method: str,
        request: Message,
        response: type[Response],
        timeout: float | None,
        *,
        once: bool = False,
    ) -> Iterator[Response]:
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
                for item in call:
                    started = True
                    yield item
                return
            except grpc.RpcError as error:
                failure = self._failure(error)
                if started or once:
                    raise failure from None
                pause = tries.pause_after(failure)
            finally:
                call.cancel()
            self.pause(pause)

    def upload(
        self,
        method: str,
        requests: Iterator[Message],
        response: type[Response],
        timeout: float | None,
    ) -> Response:
        """Run a call that streams requests."""
        call = self._method(method, response, self._channel.stream_unary)
        try:
            done: Response = call(requests, timeout=timeout, metadata=self.settings.metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from None
        return done

    def pause(self, seconds: float) -> None:
        """Wait, until the client is closed at most."""
        self._closing.wait(seconds)

    def close(self) -> None:
        """Close the channel."""
        self._closing.set()
        if self._owned:
            self._channel.close()

    def _method(
        self, method: str, response: type[Message], open_method: Callable[..., Any]
    ) -> Callable[..., Any]:
        if self._closing.is_set():
            raise errors.Closed
        if method not in self._methods:
            self._methods[method] = open_method(
                f"/recollect.v1.{method}",
                request_serializer=_bytes,
                response_deserializer=response.FromString,
            )
        return self._methods[method]

    def _failure(self, error: Any) -> errors.RecollectError:
        if self._closing.is_set():
            return errors.Closed()
        trailing: dict[str, str | bytes] = dict(error.trailing_metadata() or ())
        return errors.from_call(error.code(), error.details() or "", trailing)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


def _open(settings: Settings) -> grpc.Channel:
    if settings.credentials is not None:
        return grpc.secure_channel(settings.address, settings.credentials, OPTIONS)
    return grpc.insecure_channel(settings.address, OPTIONS)
