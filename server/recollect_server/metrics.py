"""Every metric of a process: its name, its unit, what it says, and where its value is read.

Names follow Prometheus: base units, `_total` for counters. Labels have few and fixed values; none
is ever an id or a text of a caller. docs/observability.md lists what is here, and a test compares
them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from recollect_server.admin.model import JobDepth, JobState
from recollect_server.admin.quotas import Quotas
from recollect_server.admin.server import StoreState
from recollect_server.cache.statistics import Statistics
from recollect_server.errors import RecollectError
from recollect_server.memory.due import JobKind
from recollect_server.memory.ports import EmbeddingBacklog, RecallIndex
from recollect_server.memory.windows import Windows
from recollect_server.stores.sql.database import WriterState
from recollect_server.telemetry import Telemetry
from recollect_server.timing import Histogram, Timings

log = structlog.get_logger("recollect.metrics")

SCRAPE_SECONDS = 5.0
"""How long a scrape may take; a store that answers later is not reported."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a process's metrics are read; what it has no part of is None.

    Attributes:
        backlog: counts texts that wait for their vectors.
        depths: counts the jobs of the database.
        probe: asks each store whether it answers.
        paused: whether calls of each chat provider are refused for now.
        stages: what parts of recalls took.
    """

    telemetry: Telemetry
    writer: WriterState
    backlog: Callable[[], Awaitable[EmbeddingBacklog]]
    depths: Callable[[], Awaitable[tuple[JobDepth, ...]]]
    probe: Callable[[], Awaitable[tuple[StoreState, ...]]] | None = None
    paused: Callable[[], Mapping[str, bool]] | None = None
    stages: Timings = field(default_factory=lambda: Timings("stage"))
    index: RecallIndex | None = None
    windows: Windows | None = None
    cache: Statistics | None = None
    quotas: Quotas | None = None


Samples = Iterable[tuple[tuple[str, ...], float]]
"""Values of the labels, and the metric's."""


def _gauge(name: str, text: str, samples: Samples, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"recollect_{name}", text, labels=labels), samples)


def _counter(name: str, text: str, samples: Samples, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"recollect_{name}", text, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Samples) -> Metric:
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _histogram(
    name: str, text: str, series: Mapping[tuple[str, ...], Histogram], *labels: str
) -> Metric:
    family = HistogramMetricFamily(f"recollect_{name}", text, labels=labels)
    for values, histogram in series.items():
        family.add_metric(values, _buckets(histogram), histogram.total)
    return family


def _buckets(histogram: Histogram) -> Any:
    """Return (upper bound, values up to it, exemplar) for each bound and +Inf."""
    count = 0
    buckets = []
    for at, bound in enumerate((*histogram.bounds, "+Inf")):
        count += histogram.counts[at]
        exemplar = None
        if at in histogram.exemplars:
            trace_id, value, seen = histogram.exemplars[at]
            exemplar = Exemplar({"trace_id": trace_id}, value, seen)
        buckets.append((str(bound), count, exemplar))
    return buckets


def _timings(name: str, text: str, timings: Timings) -> Metric:
    return _histogram(name, text, timings.series, *timings.names)


def _of_calls(telemetry: Telemetry) -> Iterator[Metric]:
    yield _histogram(
        "rpc_duration_seconds",
        "Calls by method and status code; a stream lasts as long as it is open.",
        {(method[1:], code): h for (method, code), h in telemetry.calls.series.items()},
        *telemetry.calls.names,
    )
    streams = [((method[1:],), count) for method, count in telemetry.open_streams.items()]
    yield _gauge("rpc_open_streams", "Streams that are open.", streams, "method")


def _of_stores(telemetry: Telemetry, writer: WriterState) -> Iterator[Metric]:
    yield _timings(
        "sql_duration_seconds",
        "Requests to the database, waits for a connection or a commit included.",
        telemetry.sql,
    )
    yield _timings(
        "sql_read_wait_seconds", "Time until a read had a connection.", telemetry.sql_waits
    )
    yield _histogram(
        "sql_write_wait_seconds",
        "Time until the first write of a commit had a connection.",
        {(): writer.waits},
    )
    yield _histogram(
        "sql_group_size_writes", "Writes that shared a commit.", {(): writer.group_sizes}
    )
    yield _gauge("sql_writes_waiting", "Writes that wait for a connection.", [((), writer.waiting)])
    yield _timings(
        "valkey_duration_seconds",
        "Requests to Valkey, by what the server is used for: state or cache.",
        telemetry.valkey,
    )


def _of_models(telemetry: Telemetry, paused: Mapping[str, bool]) -> Iterator[Metric]:
    yield _timings(
        "embedding_duration_seconds",
        "Calls of the embedder: for a query, or for what is stored.",
        telemetry.embedding,
    )
    texts = [((purpose,), count) for purpose, count in telemetry.embedded_texts.items()]
    yield _counter("embedded_texts_total", "Texts given to the embedder.", texts, "purpose")
    yield _timings(
        "model_duration_seconds", "Calls of chat models, to the end of the answer.", telemetry.model
    )
    yield _timings(
        "model_first_event_seconds", "Time until a chat model began.", telemetry.model_first
    )
    yield _counter(
        "model_tokens_total",
        "Tokens that chat models counted.",
        telemetry.model_tokens.items(),
        *("provider", "model", "kind"),
    )
    yield _counter(
        "model_cost_usd_total",
        "What chat models cost by their list price, in US dollars.",
        telemetry.model_cost.items(),
        *("provider", "model"),
    )
    yield _gauge(
        "model_paused",
        "1 while calls of a provider are refused because it failed several times.",
        [((role,), float(refused)) for role, refused in paused.items()],
        "role",
    )


def _of_jobs(
    telemetry: Telemetry, depths: Iterable[JobDepth] | None, backlog: EmbeddingBacklog | None
) -> Iterator[Metric]:
    yield _timings("job_duration_seconds", "Runs of background jobs.", telemetry.jobs)
    # What nobody counted is missing, and what there is none of is 0.
    there = depths is not None
    counts = {(str(k), s.name.lower()): 0 for k in JobKind for s in JobState if there}
    counts |= {(depth.kind, depth.state.name.lower()): depth.count for depth in depths or ()}
    yield _gauge(
        "jobs",
        "Background jobs of the database by state: due, running or dead.",
        counts.items(),
        *("kind", "state"),
    )
    lags = {(str(kind),): 0.0 for kind in JobKind if there}
    lags |= {(d.kind,): d.lag_seconds for d in depths or () if d.state is JobState.DUE}
    yield _gauge(
        "job_lag_seconds",
        "How long the job that is due longest has waited.",
        lags.items(),
        "kind",
    )
    waiting = [] if backlog is None else [((), backlog.waiting)]
    yield _gauge("embedding_backlog_texts", "Texts that wait for their vectors.", waiting)


def _of_memory(sources: Sources) -> Iterator[Metric]:
    yield _timings("recall_stage_duration_seconds", "Parts of recalls.", sources.stages)
    if sources.index is not None:
        yield _gauge(
            "index_resident_bytes", "Memory of resident indexes.", [((), sources.index.nbytes)]
        )
        users = [((), sources.index.resident_users)]
        yield _gauge("index_resident_users", "Users whose index is resident.", users)
    if sources.windows is not None:
        yield _gauge("window_bytes", "Memory of recent windows.", [((), sources.windows.nbytes)])
        yield _gauge("windows", "Sessions whose window is resident.", [((), len(sources.windows))])
    if sources.cache is not None:
        yield _timings(
            "cache_lookup_duration_seconds",
            "Lookups in the answer cache by tier, outcome and, for a miss, reason.",
            sources.cache.lookups,
        )
        yield _counter(
            "cache_saved_usd_total",
            "What hits of the answer cache saved, in US dollars.",
            [((), sources.cache.saved_usd)],
        )


def _of_limits(quotas: Quotas) -> Iterator[Metric]:
    yield _counter(
        "limited_calls_total",
        "Calls that were refused, by limit and by whose it is: tenant or user.",
        [((str(limit), whose), count) for (limit, whose), count in quotas.refused.items()],
        *("limit", "of"),
    )
    yield _gauge(
        "limits_counted_alone",
        "1 while limits are counted by this process alone, as Valkey does not answer.",
        [((), float(quotas.alone))],
    )


async def _within(question: Awaitable[Any]) -> Any:
    """Return the answer, None if there is none in time: an outage must not hide the rest."""
    try:
        return await asyncio.wait_for(question, SCRAPE_SECONDS / 2)
    except (RecollectError, TimeoutError):
        return None
    except Exception:
        log.exception("metrics were not read")
        return None


async def _read(sources: Sources) -> list[Metric]:
    """Return all metrics; on the event loop's thread, where they are counted."""

    async def nothing() -> None:
        return None

    depths, backlog, stores = await asyncio.gather(
        _within(sources.depths()),
        _within(sources.backlog()),
        _within(sources.probe() if sources.probe is not None else nothing()),
    )
    paused = {} if sources.paused is None else sources.paused()
    return [
        InfoMetricFamily(
            "recollect_build",
            "The version of the server.",
            value={"version": version("recollect-server")},
        ),
        _gauge(
            "store_up",
            "1 while a store answers.",
            [((each.name, each.kind), float(each.available)) for each in stores or ()],
            *("store", "kind"),
        ),
        *_of_calls(sources.telemetry),
        *_of_stores(sources.telemetry, sources.writer),
        *_of_models(sources.telemetry, paused),
        *_of_jobs(sources.telemetry, depths, backlog),
        *_of_memory(sources),
        *(_of_limits(sources.quotas) if sources.quotas is not None else ()),
    ]


class _Collector(Collector):
    """Reads the metrics of an event loop, from the threads of the HTTP server."""

    def __init__(self, sources: Sources, loop: asyncio.AbstractEventLoop) -> None:
        self._sources = sources
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        """Return all metrics. Raises `TimeoutError` while the loop is held up."""
        reading = asyncio.run_coroutine_threadsafe(_read(self._sources), self._loop)
        return reading.result(SCRAPE_SECONDS)


def publish(listen: str, sources: Sources) -> Callable[[], None]:
    """Serve metrics by HTTP at HOST:PORT, and return what ends it.

    Raises:
        OSError: the address cannot be served.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(sources, asyncio.get_running_loop()))
    ProcessCollector(registry=registry)
    host, _, port = listen.rpartition(":")
    server, thread = start_http_server(int(port), host.strip("[]"), registry)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
