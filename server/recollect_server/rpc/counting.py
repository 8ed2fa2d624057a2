"""The outermost interceptor: how many calls there are, how long each takes, and how it ends."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import grpc

from recollect_server.rpc.call import Call, Stream, Unary
from recollect_server.timing import Span, Timings


class CallTracer(Protocol):
    """Begins the spans of calls."""

    def serve(self, method: str, metadata: Mapping[str, str | bytes]) -> Span | None:
        """Begin a call's span, below the caller's, and make it the running one of this task.

        None where the call is not traced.
        """


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Where calls are counted.

    Attributes:
        timings: by method, as in `/recollect.v1.MemoryService/Recall`, and code.
        open_streams: by method.
        tracer: None for no traces.
    """

    timings: Timings
    open_streams: Counter[str]
    tracer: CallTracer | None


class Counting:
    """Counts calls."""

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        counts = self._counts

        async def handler(call: Call, request: Any) -> Any:
            with _Counted(counts, call):
                return await inner(call, request)

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        counts = self._counts

        async def handler(call: Call, request: Any) -> None:
            counts.open_streams[call.method] += 1
            try:
                with _Counted(counts, call):
                    await inner(call, request)
            finally:
                counts.open_streams[call.method] -= 1

        return handler


class _Counted:
    """Counts a call that lasts as long as this context, with its span where it is traced."""

    __slots__ = ("_call", "_counts", "_span", "_started")

    def __init__(self, counts: CallCounts, call: Call) -> None:
        self._counts = counts
        self._call = call
        self._span: Span | None = None

    def __enter__(self) -> None:
        call, tracer = self._call, self._counts.tracer
        self._started = time.perf_counter()
        if tracer is None:
            return
        metadata: dict[str, str | bytes] = dict(call.context.invocation_metadata() or ())
        self._span = tracer.serve(call.method[1:], metadata)
        if self._span is not None:
            call.trace_id = self._span.trace_id

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call = self._call
        code = "OK" if error is None else _code(call, error)
        seconds = time.perf_counter() - self._started
        self._counts.timings.add(seconds, call.method, code, trace_id=call.trace_id)
        if self._span is not None:
            self._span.end("ok" if code == "OK" else code)


def _code(call: Call, error: BaseException) -> str:
    """Name the status that a call ends with."""
    if isinstance(error, grpc.aio.AbortError):
        return str(call.context.code().name)
    if isinstance(error, asyncio.CancelledError | GeneratorExit | grpc.aio.BaseError):
        return "CANCELLED"
    return "UNKNOWN"
