"""Plain counts of how long things take, which whoever wants may read.

They are kept and read on the event loop's thread, so they need no locks and cost well under a
microsecond. Nothing here knows what becomes of them: `metrics.py` names and publishes them.
"""

import time
from bisect import bisect_left
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

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
