"""What a collector of traces gets of real calls: the tree, the caller's context, exemplars."""

import time

from tests.harness import RunningServer, eventually, unique
from tests.observability.collector import Collector, Scrape, Span

from recollect.v1 import memory_pb2

EXPORTER_SECONDS = 20
"""Less than the exporter would go on trying."""

CALLER = "00f067aa0ba902b7"


def _traceparent(trace_id: str, *, sampled: bool = True) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace_id}-{CALLER}-0{int(sampled)}"),)


def _trace(collector: Collector, trace_id: str, name: str) -> list[Span]:
    """Return a trace's spans, once the call's own is among them: children end before it."""

    def whole() -> list[Span]:
        spans = [span for span in collector.spans() if span.trace_id == trace_id]
        return spans if any(span.name == name for span in spans) else []

    found: list[Span] = eventually(whole)
    return found


def _recall(server: RunningServer, user: str, metadata: tuple[tuple[str, str], ...]) -> None:
    request = memory_pb2.RecallRequest(user_id=user, query="where do I live?")
    method = "recollect.v1.MemoryService/Recall"
    server.raw(method, request.SerializeToString(), metadata)


def test_a_call_is_a_tree_below_its_caller(server, collector):
    user, trace_id = unique("ada"), "4bf92f3577b34da6a3ce929d0e0e4736"
    with server.client(user) as client:
        client.memory.remember(["I live in Lisbon."])
    _recall(server, user, _traceparent(trace_id))
    name = "recollect.v1.MemoryService/Recall"
    spans = _trace(collector, trace_id, name)
    (call,) = [span for span in spans if span.name == name]
    assert call.parent_id == CALLER
    assert call.attributes["rpc.method"] == "Recall"
    assert not call.failed
    below = [span for span in spans if span is not call]
    assert {span.name for span in below} == {"sql", "embedding"}
    assert {span.parent_id for span in below} == {call.span_id}
    (embedding,) = [span for span in below if span.name == "embedding"]
    assert embedding.attributes == {"purpose": "query", "outcome": "ok"}
    assert {s.attributes["operation"] for s in below if s.name == "sql"} <= {"read", "read_rows"}


def test_a_turn_shows_its_model_its_cache_and_its_writes(server, collector):
    user = unique("ada")
    with server.client(user) as client:
        client.memory.create_session(session_id="s")
        before = {span.span_id for span in collector.spans()}
        client.chat.send("s", f"Tell me of {user}")

    def whole() -> list[Span]:
        calls = [s for s in collector.spans() if s.name.endswith("ChatService/Chat")]
        return [s for s in calls if s.span_id not in before]

    (call,) = eventually(whole)
    spans = [span for span in collector.spans() if span.trace_id == call.trace_id]
    below = {span.name: span.attributes for span in spans if span.parent_id == call.span_id}
    assert set(below) >= {"sql", "valkey", "embedding", "model"}
    assert below["model"] == {"provider": "anthropic", "outcome": "ok"}
    assert any(span.attributes.get("operation") == "write" for span in spans)


def test_a_failed_call_is_marked(server, collector):
    trace_id = "5bf92f3577b34da6a3ce929d0e0e4736"
    request = memory_pb2.GetSessionRequest(user_id=unique("ada"), session_id="none")
    method = "recollect.v1.MemoryService/GetSession"
    server.raw(method, request.SerializeToString(), _traceparent(trace_id))
    (call,) = [s for s in _trace(collector, trace_id, method) if s.name == method]
    assert call.failed
    assert call.attributes["rpc.grpc.status"] == "NOT_FOUND"


def test_a_caller_that_does_not_sample_is_obeyed_and_pollings_are_not_traced(server, collector):
    user, quiet, loud = unique("ada"), "6b" * 16, "7b" * 16
    _recall(server, user, _traceparent(quiet, sampled=False))
    _recall(server, user, _traceparent(loud))
    _trace(collector, loud, "recollect.v1.MemoryService/Recall")
    spans = collector.spans()
    assert quiet not in {span.trace_id for span in spans}
    roots = {span.name for span in spans if not span.parent_id}
    assert all("/" in name or name.startswith("job ") for name in roots), roots


def test_a_job_is_a_trace_of_its_own(server, collector):
    with server.client(unique("ada")) as client:
        client.memory.create_session(session_id="s")
        client.memory.append_messages("s", [f"Sentence {n}." for n in range(13)])
    job = eventually(lambda: [s for s in collector.spans() if s.name == "job summarize"])[0]
    assert not job.parent_id
    below = [span for span in collector.spans() if span.parent_id == job.span_id]
    assert {"sql", "model"} <= {span.name for span in below}


def test_latencies_name_a_trace_that_was_sent(server, collector, metrics):
    trace_id = "8bf92f3577b34da6a3ce929d0e0e4736"
    user = unique("ada")
    _recall(server, user, _traceparent(trace_id))
    scraped = Scrape(metrics, exemplars=True)
    exemplars = {
        sample.exemplar.labels["trace_id"]
        for sample in scraped.samples
        if sample.exemplar is not None and sample.name == "recollect_rpc_duration_seconds_bucket"
    }
    assert trace_id in exemplars
    _trace(collector, trace_id, "recollect.v1.MemoryService/Recall")


def test_calls_go_on_while_the_collector_is_down():
    with Collector() as gone:
        url = gone.url
    with (
        RunningServer(
            *("--traces-endpoint", url, "--log-format", "json"),
            environment={
                "OTEL_BSP_SCHEDULE_DELAY": "50",
                "OTEL_EXPORTER_OTLP_TIMEOUT": str(2 * EXPORTER_SECONDS),
            },
        ) as server,
        server.client("ada") as client,
    ):
        client.memory.create_session(session_id="s")
        eventually(lambda: "traces not exported" in server.log)
        client.memory.append_messages("s", ["Hello"])
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < EXPORTER_SECONDS
