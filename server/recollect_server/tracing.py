"""Traces by OpenTelemetry: a span for each call, and below it one for each request to a store, an
embedder or a model. It needs the extra `otel`, and is imported only where traces are wanted.

What is begun outside a call or a job is not traced: pollings would drown everything else. Spans
hold methods, codes and what the labels of metrics hold, and neither ids nor texts.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from recollect_server.timing import Span

log = structlog.get_logger("recollect.tracing")

TRACES_PATH = "/v1/traces"

FLUSH_SECONDS = 2.0
"""How long the last spans may take to be exported: a collector that is away delays no end."""

_OF_CALLER = TraceContextTextMapPropagator()


class _Span:
    """See `timing.Span`."""

    __slots__ = ("_code_name", "_span", "trace_id")

    def __init__(self, span: trace.Span, code_name: str = "outcome") -> None:
        self._span = span
        self._code_name = code_name
        self.trace_id = format_trace_id(span.get_span_context().trace_id)

    def end(self, outcome: str) -> None:
        """See `timing.Span`."""
        self._span.set_attribute(self._code_name, outcome)
        if outcome != "ok":
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _Root:
    """A trace of work that no call asked for."""

    def __init__(self, span: trace.Span) -> None:
        self._span = _Span(span)
        self._context = trace.set_span_in_context(span)

    def __enter__(self) -> object:
        self._token = context.attach(self._context)
        return self

    def __exit__(self, *error: Any) -> None:
        context.detach(self._token)
        self._span.end("ok" if error[0] is None else "error")


class OtelTracer:
    """Implements `telemetry.ProcessTracer`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("recollect")

    def serve(self, method: str, metadata: Mapping[str, str | bytes]) -> Span | None:
        """See `CallTracer`."""
        service, _, name = method.rpartition("/")
        span = self._tracer.start_span(
            method,
            context=_OF_CALLER.extract({k: v for k, v in metadata.items() if isinstance(v, str)}),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        # Each call has a task of its own, so there is nothing to put back.
        context.attach(trace.set_span_in_context(span))
        return _Span(span, "rpc.grpc.status") if span.is_recording() else None

    def begin(self, name: str, labels: dict[str, str]) -> Span | None:
        """See `timing.Tracer`."""
        if not trace.get_current_span().is_recording():
            return None
        return _Span(self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=dict(labels)))

    def root(self, name: str) -> _Root:
        """See `ProcessTracer`."""
        return _Root(self._tracer.start_span(name, kind=SpanKind.CONSUMER))


def open_tracer(
    endpoint: str, sample: float, version: str
) -> tuple[OtelTracer, Callable[[], None]]:
    """Return a tracer that exports to an OTLP/HTTP collector, and what flushes and ends it.

    Args:
        endpoint: http://HOST:PORT, or a full URL that ends in /v1/traces.
        sample: the share of traces that are kept where the caller has not decided.
    """
    logging.getLogger("opentelemetry").addHandler(_ToLog())
    logging.getLogger("opentelemetry").propagate = False
    url = endpoint.rstrip("/")
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample)),
        resource=Resource.create({"service.name": "recollect", "service.version": version}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(url if url.endswith(TRACES_PATH) else url + TRACES_PATH)
    provider.add_span_processor(BatchSpanProcessor(exporter))

    def end() -> None:
        giving_up = threading.Timer(FLUSH_SECONDS, exporter.shutdown)
        giving_up.start()
        provider.shutdown()
        giving_up.cancel()

    return OtelTracer(provider), end


class _ToLog(logging.Handler):
    """Brings what the exporter says into the server's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        log.warning("traces not exported", source=record.name)
