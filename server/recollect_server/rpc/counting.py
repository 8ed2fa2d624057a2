"""The outermost interceptor: how many calls there are, how long each takes, and how it ends."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from recollect_server.activity import Activity
from recollect_server.rpc.call import Call
from recollect_server.timing import Span, Timings

Unary = Callable[[Call, Any], Awaitable[Any]]
Stream = Callable[[Call, Any], Awaitable[AsyncIterator[Any]]]


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
    """Notes the unary calls that were answered, and counts all calls where that is wanted.

    Args:
        counts: None where nobody asks for them; a call then pays nothing.
    """

    def __init__(self, activity: Activity, counts: CallCounts | None = None) -> None:
        self._activity = activity
        self._counts = counts

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        activity = self._activity

        async def handler(call: Call, request: Any) -> Any:
            try:
                return await inner(call, request)
            finally:
                activity.answered()

        if self._counts is None:
            return handler
        counts = self._counts

        if counts.tracer is not None:
            return self._traced(inner, counts)
        series, add = counts.timings.series, counts.timings.add

        async def counted(call: Call, request: Any) -> Any:
            started = time.perf_counter()
            code = "OK"
            try:
                return await inner(call, request)
            except BaseException as error:
                code = _code(call, error)
                raise
            finally:
                activity.answered()
                seconds = time.perf_counter() - started
                histogram = series.get((call.method, code))
                if histogram is None:
                    add(seconds, call.method, code)
                else:
                    histogram.observe(seconds)

        return counted

    def _traced(self, inner: Unary, counts: CallCounts) -> Unary:
        activity = self._activity

        async def traced(call: Call, request: Any) -> Any:
            started = time.perf_counter()
            span = _begin(counts, call)
            code = "OK"
            try:
                return await inner(call, request)
            except BaseException as error:
                code = _code(call, error)
                raise
            finally:
                activity.answered()
                _count(counts, call, started, code, span)

        return traced

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        if self._counts is None:
            return inner
        counts = self._counts

        async def handler(call: Call, request: Any) -> AsyncIterator[Any]:
            return items(call, request)

        async def items(call: Call, request: Any) -> AsyncIterator[Any]:
            started = time.perf_counter()
            span = _begin(counts, call)
            code = "OK"
            counts.open_streams[call.method] += 1
            try:
                async for item in await inner(call, request):
                    yield item
            except BaseException as error:
                code = _code(call, error)
                raise
            finally:
                counts.open_streams[call.method] -= 1
                _count(counts, call, started, code, span)

        return handler


def _begin(counts: CallCounts, call: Call) -> Span | None:
    if counts.tracer is None:
        return None
    metadata: dict[str, str | bytes] = dict(call.context.invocation_metadata() or ())
    span = counts.tracer.serve(call.method[1:], metadata)
    if span is not None:
        call.trace_id = span.trace_id
    return span


def _count(counts: CallCounts, call: Call, started: float, code: str, span: Span | None) -> None:
    seconds = time.perf_counter() - started
    counts.timings.add(seconds, call.method, code, trace_id=call.trace_id)
    if span is not None:
        span.end("ok" if code == "OK" else code)


def _code(call: Call, error: BaseException) -> str:
    """Name the status that a call ends with."""
    if isinstance(error, grpc.aio.AbortError):
        return str(call.context.code().name)
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    return "UNKNOWN"
