"""Plain counts of how long things take, which whoever wants may read.

They are kept and read on the event loop's thread, so they need no locks and cost well under a
microsecond. Nothing here knows what becomes of them: `metrics.py` names and publishes them.
"""

import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")

SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Upper bounds of durations, from a read that is answered from memory to a long turn."""

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """Counts of values by upper bound.

    Attributes:
        counts: values up to each bound and over the one before; the last is of those over all.
        total: sum of the values.
        exemplars: by position in `counts` the last value that has a trace: (id, value, Unix time).
    """

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, tuple[str, float, float]] = {}

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count a value."""
        at = bisect_left(self.bounds, value)
        self.counts[at] += 1
        self.total += value
        if trace_id:
            self.exemplars[at] = (trace_id, value, time.time())


class Span(Protocol):
    """A part of a trace that has begun.

    Attributes:
        trace_id: 32 hexadecimal digits.
    """

    trace_id: str

    def end(self, outcome: str) -> None:
        """End it; any outcome but `ok` marks it as failed."""


class Tracer(Protocol):
    """Begins spans."""

    def begin(self, name: str, labels: dict[str, str]) -> Span | None:
        """Begin a span within the running one; None where nothing is traced."""


class Timings:
    """Durations of one kind of work.

    Args:
        names: of the labels, in the order in which they are given.
        outcome: names how work ended, by what it raised; its answer is one more label, the last.
        span: the name of the spans that a tracer begins.

    Attributes:
        series: durations in seconds by the labels' values. Values must be few and fixed: never an
            id, never a text.
    """

    __slots__ = ("_outcome", "_span", "_tracer", "names", "series")

    def __init__(
        self,
        *names: str,
        outcome: Callable[[BaseException | None], str] | None = None,
        span: str = "",
        tracer: Tracer | None = None,
    ) -> None:
        self.names = names if outcome is None else (*names, "outcome")
        self.series: dict[tuple[str, ...], Histogram] = {}
        self._outcome = outcome
        self._span = span
        self._tracer = tracer

    def add(self, seconds: float, *labels: str, trace_id: str = "") -> None:
        """Count a duration, with every label."""
        series = self.series.get(labels)
        if series is None:
            series = self.series[labels] = Histogram()
        series.observe(seconds, trace_id)

    def time(self, *labels: str) -> "Timed":
        """Return a context that counts how long it lasts, with every label but the outcome."""
        return Timed(self, labels)

    def timer(self, *labels: str) -> "Timer":
        """Return what counts how long work lasts that is awaited often."""
        return Timer(self, labels)

    @property
    def traced(self) -> bool:
        """Whether work may have spans."""
        return self._tracer is not None

    def of(self, labels: tuple[str, ...], error: BaseException | None) -> Histogram:
        """Return the durations of work that ended like this."""
        if self._outcome is not None:
            labels = (*labels, self._outcome(error))
        return self.series.setdefault(labels, Histogram())

    def begin(self, labels: tuple[str, ...]) -> Span | None:
        """Begin the span of some work."""
        if self._tracer is None:
            return None
        return self._tracer.begin(self._span, dict(zip(self.names, labels, strict=False)))

    def end(
        self,
        started: float,
        labels: tuple[str, ...],
        span: Span | None,
        error: BaseException | None,
    ) -> None:
        """Count work that began at `started`, of `time.perf_counter`, and end its span."""
        if self._outcome is not None:
            labels = (*labels, self._outcome(error))
        if span is None:
            self.add(time.perf_counter() - started, *labels)
            return
        self.add(time.perf_counter() - started, *labels, trace_id=span.trace_id)
        span.end(labels[-1] if self._outcome is not None else "ok")


class Timer:
    """Counts how long work of the same labels lasts.

    Calls pay for this each time, so what is usual, work that succeeds and is not traced, goes
    straight to its histogram.
    """

    __slots__ = ("_labels", "_succeeded", "_timings", "_traced")

    def __init__(self, timings: Timings, labels: tuple[str, ...]) -> None:
        self._timings = timings
        self._labels = labels
        self._traced = timings.traced
        self._succeeded = timings.of(labels, None)

    def __call__(self, work: Awaitable[T]) -> Coroutine[Any, Any, T]:
        """Return what is to be awaited instead."""
        return self._trace(work) if self._traced else self._count(work)

    async def _count(self, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            result = await work
        except BaseException as error:
            self._timings.end(started, self._labels, None, error)
            raise
        seconds = time.perf_counter() - started
        histogram = self._succeeded
        histogram.counts[bisect_left(histogram.bounds, seconds)] += 1
        histogram.total += seconds
        return result

    async def _trace(self, work: Awaitable[T]) -> T:
        with Timed(self._timings, self._labels):
            return await work


class Timed:
    """Work that is being timed."""

    __slots__ = ("_labels", "_span", "_started", "_timings")

    def __init__(self, timings: Timings, labels: tuple[str, ...]) -> None:
        self._timings = timings
        self._labels = labels

    def __enter__(self) -> Self:
        self._span = self._timings.begin(self._labels)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timings.end(self._started, self._labels, self._span, error)
