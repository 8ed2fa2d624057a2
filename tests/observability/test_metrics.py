"""What a live server's metrics say of its calls, stores, models and jobs."""

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tests.harness import ROOT, RunningServer, children, clean_environment, eventually, unique
from tests.mocks.llm import free_port
from tests.observability.collector import Scrape

from recollect import errors, user
from recollect.v1 import chat_pb2, memory_pb2, memory_pb2_grpc
from recollect_server.models.guarded import FAILURES_TO_OPEN
from recollect_server.telemetry import Telemetry

CALLS = "recollect_rpc_duration_seconds_count"


def test_calls_are_counted_by_method_and_code(server, metrics):
    before = Scrape(metrics)
    with server.client(unique("ada")) as client:
        for _ in range(3):
            client.memory.create_session()
        with pytest.raises(errors.NotFound):
            client.memory.get_session("none")
    after = Scrape(metrics)
    service = "recollect.v1.MemoryService"

    def grown(method: str, code: str) -> float:
        labels = {"method": f"{service}/{method}", "code": code}
        return after.value(CALLS, **labels) - before.value(CALLS, **labels)

    assert grown("CreateSession", "OK") == 3
    assert grown("GetSession", "NOT_FOUND") == 1
    assert grown("GetSession", "OK") == 0
    assert after.value("recollect_rpc_duration_seconds_sum", code="OK") > before.value(
        "recollect_rpc_duration_seconds_sum", code="OK"
    )


def test_a_stream_is_open_until_it_ends(server, metrics):
    method = "recollect.v1.MemoryService/Watch"

    def open_streams() -> float:
        return Scrape(metrics).value("recollect_rpc_open_streams", method=method)

    def ended() -> float:
        return Scrape(metrics).value(CALLS, method=method, code="CANCELLED")

    before = ended()
    with grpc.insecure_channel(server.address) as channel:
        request = memory_pb2.WatchRequest(user_id=unique("ada"))
        call = memory_pb2_grpc.MemoryServiceStub(channel).Watch(request)
        eventually(lambda: open_streams() == 1)
        call.cancel()
        eventually(lambda: open_streams() == 0)
    assert ended() == before + 1


def test_lookups_stages_jobs_models_and_memory_are_counted(server, metrics):
    before = Scrape(metrics)
    with server.client(unique("ada")) as client:
        client.memory.create_session(session_id="s")
        client.memory.remember(["I live in Lisbon."])
        client.memory.recall("where do I live?")
        for _ in range(2):
            client.chat.send("s", "Hello")
        last = client.memory.append_messages("s", [f"Sentence {n}." for n in range(12)])
        client.memory.recall("Sentence", min_revision=last.user_revision)
        eventually(lambda: client.memory.get_session("s").HasField("summary"))
    after = Scrape(metrics)

    def grown(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    lookups = "recollect_cache_lookup_duration_seconds_count"
    assert grown(lookups, outcome="miss") >= 1
    for stage in ("refresh", "embed", "rank"):
        assert grown("recollect_recall_stage_duration_seconds_count", stage=stage) >= 2, stage
    assert grown("recollect_model_duration_seconds_count", provider="anthropic", outcome="ok") >= 2
    assert grown("recollect_model_first_event_seconds_count", provider="anthropic") >= 2
    assert grown("recollect_model_tokens_total", provider="anthropic", kind="output") > 0
    assert grown("recollect_model_cost_usd_total", provider="anthropic") > 0
    assert grown("recollect_job_duration_seconds_count", kind="summarize", outcome="ok") >= 1
    assert grown("recollect_embedding_duration_seconds_count", purpose="query", outcome="ok") >= 1
    assert grown("recollect_embedded_texts_total", purpose="stored") >= 13
    assert grown("recollect_sql_duration_seconds_count", operation="write", outcome="ok") > 3
    assert grown("recollect_sql_group_size_writes_sum") > 3
    assert grown("recollect_valkey_duration_seconds_count", server="cache", outcome="ok") > 0
    assert after.value("recollect_index_resident_bytes") > 0
    assert after.value("recollect_index_resident_users") >= 1
    assert after.value("recollect_windows") >= 1
    assert after.value("recollect_jobs", kind="summarize", state="dead") == 0
    assert after.value("recollect_store_up", store="sql") == 1
    assert after.value("process_open_fds") > 0


def test_hits_are_counted_by_tier(server, metrics):
    before = Scrape(metrics)
    name = "recollect_cache_lookup_duration_seconds_count"
    with server.client(unique("ada")) as client:
        for _ in range(2):
            session = client.memory.create_session().session_id
            client.chat.send(session, "What is the capital of France?")
    after = Scrape(metrics)
    hits = {"tier": "exact", "outcome": "hit", "reason": ""}
    assert after.value(name, **hits) - before.value(name, **hits) == 1
    assert after.value("recollect_cache_saved_usd_total") > 0


def test_an_outage_shows_and_hides_nothing_else():
    address = f"127.0.0.1:{free_port()}"
    with RunningServer("--metrics-listen", address) as server, server.client("ada") as client:
        client.memory.create_session(session_id="s")
        (valkey,) = children(server.pid)
        subprocess.run(["kill", f"-{signal.SIGSTOP.name[3:]}", str(valkey)], check=True)
        try:
            client.memory.append_messages("s", ["Hello"])
            eventually(lambda: Scrape(address).value("recollect_store_up", store="state") == 0)
            scraped = Scrape(address)
        finally:
            subprocess.run(["kill", f"-{signal.SIGCONT.name[3:]}", str(valkey)], check=True)
        assert scraped.value("recollect_store_up", store="sql") == 1
        assert scraped.value(CALLS, method="recollect.v1.MemoryService/AppendMessages") == 1
        failed = {"server": "state", "outcome": "unavailable"}
        assert scraped.value("recollect_valkey_duration_seconds_count", **failed) >= 1
        eventually(lambda: Scrape(address).value("recollect_store_up", store="state") == 1)


def test_calls_of_a_provider_that_fails_are_shown_as_paused(mock):
    address = f"127.0.0.1:{free_port()}"
    with (
        RunningServer(
            *("--metrics-listen", address, "--anthropic-base-url", mock.url),
            environment={"ANTHROPIC_API_KEY": "k"},
        ) as server,
        server.client("ada") as client,
    ):
        assert Scrape(address).value("recollect_model_paused", role="first") == 0

        def fail(number: int) -> None:
            session = client.memory.create_session().session_id
            request = chat_pb2.ChatRequest(
                user_id="ada", session_id=session, message=user(f"busy {number}")
            )
            # Not by the client, which would try again for long.
            code, *_ = server.raw("recollect.v1.ChatService/Chat", request.SerializeToString())
            assert code == grpc.StatusCode.UNAVAILABLE

        with ThreadPoolExecutor(FAILURES_TO_OPEN) as pool:
            list(pool.map(fail, range(FAILURES_TO_OPEN)))
        scraped = Scrape(address)
        assert scraped.value("recollect_model_paused", role="first") == 1
        failed = scraped.value("recollect_model_duration_seconds_count", outcome="unavailable")
        assert failed >= FAILURES_TO_OPEN


def test_a_worker_has_metrics_too(tmp_path):
    address, ready = f"127.0.0.1:{free_port()}", tmp_path / "ready"
    command = [
        *(sys.executable, "-m", "recollect_server", "worker", "--metrics-listen", address),
        *("--data-dir", str(tmp_path / "data"), "--ready-file", str(ready)),
    ]
    (tmp_path / "data").mkdir()
    worker = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL)
    try:
        eventually(ready.exists, 60)
        scraped = Scrape(address)
        assert scraped.value("recollect_embedding_backlog_texts") == 0
        assert "recollect_job_lag_seconds" in scraped.families
    finally:
        worker.terminate()
        assert worker.wait(30) == 0


def test_an_address_in_use_stops_the_start_and_is_named(server, metrics, tmp_path):
    command = [sys.executable, "-m", "recollect_server", "serve", "--listen", "127.0.0.1:0"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path), "--metrics-listen", metrics],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot serve metrics on {metrics}" in done.stderr


def test_the_documentation_lists_every_metric_with_its_labels(server, metrics):
    with server.client(unique("ada")) as client:
        client.memory.create_session(session_id="s")
        client.chat.send("s", "Hello")
    listed = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(
            r"^\| `(recollect_\w+)` \| ([^|]*)\|",
            (ROOT / "docs/observability.md").read_text(),
            re.M,
        )
    }
    scraped = Scrape(metrics)
    # A counter's family goes without the suffix of its samples.
    published = {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in scraped.families.values()
        if family.name.startswith("recollect_")
    }
    assert set(listed) == set(published)
    for name, family in published.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= listed[name], name
        assert family.documentation
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_writes")), name


def test_what_nobody_asks_for_is_not_watched():
    silent, thing = Telemetry(active=False), object()
    assert silent.watch_database(thing) is thing
    assert silent.watch_client(thing, "state") is thing
    assert silent.watch_embedder(thing, "query") is thing
    assert silent.watch_model(thing) is thing
    assert silent.call_counts is None


@pytest.mark.parametrize("address", ["9464", "localhost:", "localhost:port"])
def test_an_address_that_is_none_is_refused(address, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "serve", "--metrics-listen", address],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "metrics_listen" in done.stderr
