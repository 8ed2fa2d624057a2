"""`recollect bench load` and `recollect bench scale`: what they count, and how they end."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from tests.certificates import write_localhost
from tests.harness import RunningServer, children, clean_environment

from recollect.v1 import memory_pb2
from recollect_server.bench import load, scale
from recollect_server.bench.connection import Connection, LoadError
from recollect_server.bench.echo import EchoClient
from recollect_server.bench.embedded import echo_server
from recollect_server.bench.fill import Fill, fill
from recollect_server.bench.slices import Plan, Slice, measure, middle, plan
from recollect_server.bench.texts import LONGEST, SHORTEST, Texts
from recollect_server.bench.workloads import Workload, Workloads

UNARY = {"GetContext", "AppendMessages", "LookupExact", "Recall"}


def _recollect(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(**environment),
        timeout=180,
        check=False,
    )


def _bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _recollect("bench", *arguments, **environment)


def _check_load(figures: dict) -> None:
    assert set(figures) == {"echo", "rpcs", "embed_per_s", "concurrency"}
    echo = figures["echo"]
    assert echo["rps"] > 0
    assert echo["p99_ms"] >= echo["p50_ms"] > 0
    assert set(figures["rpcs"]) - {"LookupSemantic"} == UNARY | {"StreamChat"}
    for name in UNARY:
        row = figures["rpcs"][name]
        assert row["rps"] > 0
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert row["ratio_to_echo"] > 0
        assert row["missed"] >= 0
    chat = figures["rpcs"]["StreamChat"]
    assert chat["deltas_per_s"] > 0
    assert chat["ratio_to_echo_stream"] > 0
    assert chat["deltas_per_reply"] > 50
    assert figures["embed_per_s"] > 0


def test_load_measures_a_running_server(server, tmp_path):
    out, picture = tmp_path / "out.json", tmp_path / "out.svg"
    done = _bench(
        *("load", "--target", server.address, "--duration", "0.3", "--concurrency", "1"),
        *("--json", str(out), "--plot", str(picture)),
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    _check_load(figures)
    assert "GetContext" in done.stdout
    if "LookupSemantic" not in figures["rpcs"]:
        assert "LookupSemantic: not served" in done.stdout
    assert "<svg" in picture.read_text()


def test_load_measures_a_server_of_tls_and_keys(tmp_path):
    certificate, key, authority = write_localhost(tmp_path)
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--auth", "api-key")
    with RunningServer(*flags) as server:
        made = _recollect(
            *("keys", "create", "--name", "bench", "--role", "admin"),
            *("--data-dir", str(server.data_dir)),
        )
        token = made.stdout.strip()
        load = ("load", "--target", server.address, "--duration", "0.1", "--concurrency", "1")
        trusted = ("--tls-ca", str(authority))
        done = _bench(*load, *trusted, RECOLLECT_API_KEY=token)
        assert done.returncode == 0, done.stderr
        assert "AppendMessages" in done.stdout
        for less, why in ((trusted, "UNAUTHENTICATED"), (("--api-key", token), "UNAVAILABLE")):
            refused = _bench(*load, *less)
            assert (refused.returncode, refused.stderr.split(":")[1].strip()) == (1, why)


def test_load_without_a_target_starts_a_server_of_its_own_and_leaves_nothing(tmp_path):
    environment = clean_environment(TMPDIR=str(tmp_path))
    command = [sys.executable, "-m", "recollect_server", "bench", "load"]
    done = subprocess.run(
        [*command, "--duration", "0.1", "--concurrency", "2"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "AppendMessages" in done.stdout
    assert list(tmp_path.glob("recollect-*")) == []


def test_scale_compares_two_stores_and_keeps_a_file_that_was_named(tmp_path):
    out, picture, file = tmp_path / "out.json", tmp_path / "out.svg", tmp_path / "full.db"
    arguments = ("scale", "--messages", "400", "--users", "7", "--duration", "0.3")
    url = f"sqlite:///{file}"
    done = _bench(*(*arguments, "--database-url", url, "--json", str(out), "--plot", str(picture)))
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert (figures["messages"], figures["users"]) == (400, 7)
    for method in ("GetContext", "AppendMessages"):
        assert set(figures[method]) == {"empty_p50_ms", "full_p50_ms", "ratio"}
        assert all(value > 0 for value in figures[method].values())
    assert all(mb > 20 for mb in figures["rss_mb"].values())
    assert figures["bytes_per_message"] > 100
    assert "full / empty" in done.stdout
    assert "<svg" in picture.read_text()
    assert file.exists()
    again = _bench(*arguments, "--database-url", url)
    assert again.returncode == 2
    assert "exists" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("load", "--duration", "0"),
        ("load", "--concurrency", "0"),
        ("load", "--plot", "out.pdf"),
        ("load", "--target", "192.0.2.1:50051", "--api-key", "key"),
        ("scale", "--messages", "0"),
        ("scale", "--messages", "10", "--users", "6"),
        ("scale", "--database-url", "mysql://localhost/x"),
        ("scale", "--plot", "out.pdf"),
    ],
)
def test_bad_usage_ends_with_2(arguments):
    done = _bench(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_unreachable_server_ends_with_1():
    done = _bench("load", "--target", "127.0.0.1:1", "--duration", "0.1")
    assert done.returncode == 1
    assert "recollect: UNAVAILABLE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_filled_store_holds_every_message_with_its_vector_and_waits_for_nothing(tmp_path):
    file = tmp_path / "data" / "full.db"
    size = fill(file, Fill(messages=101, users=3), lambda done, total: None)
    assert size == file.stat().st_size > 101 * 100
    with sqlite3.connect(file) as connection:

        def rows(sql: str) -> list[tuple]:
            return connection.execute(sql).fetchall()

        assert rows("SELECT COUNT(*) FROM messages") == [(101,)]
        assert rows("SELECT COUNT(*) FROM users") == [(3,)]
        assert {n for (n,) in rows("SELECT last_sequence FROM sessions")} == {16, 17}
        unlike = "SELECT session_key, sequence FROM messages EXCEPT SELECT session_key, sequence "
        assert rows(f"{unlike} FROM message_vectors") == []
        for table in ("pending_vectors", "jobs", "requests"):
            assert rows(f"SELECT COUNT(*) FROM {table}") == [(0,)], table
    connection.close()
    with pytest.raises(FileExistsError):
        fill(file, Fill(messages=101, users=3), lambda done, total: None)


async def test_the_echo_server_answers_with_what_it_was_given():
    answers = [memory_pb2.GetContextResponse(system=text) for text in ("one", "two", "three")]
    request = memory_pb2.GetContextRequest(user_id="ada")
    with echo_server() as child:
        async with grpc.aio.insecure_channel(child.address) as channel:
            client = EchoClient(channel)
            unary = await client.unary("Unary", answers[0])
            assert await unary(request) == answers[0]
            stream = await client.stream("Stream", answers)
            assert [answer async for answer in stream(request)] == answers


async def test_a_slice_counts_what_came_of_all_callers_calls():
    running = most = 0

    async def call(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return 2

    slice_ = await measure(call, 5, 0.1)
    assert most == 5
    assert 0 < slice_.rate <= 2 * 5 / 0.01
    assert slice_.p99_ms >= slice_.p50_ms >= 10


async def test_a_failing_call_ends_a_slice():
    async def call(number: int) -> int:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await measure(call, 2, 0.1)


async def test_calls_of_which_nothing_comes_are_counted_and_are_no_part_of_the_rate():
    async def call(number: int) -> int:
        await asyncio.sleep(0.001)
        return number

    slice_ = await measure(call, 2, 0.05)
    assert slice_.missed > 0
    assert 0 < slice_.rate < 1 / 0.001
    assert middle([slice_, slice_]).missed == 2 * slice_.missed


async def test_a_run_in_which_a_method_always_misses_fails():
    async def hit(number: int) -> int:
        return 1

    async def miss(number: int) -> int:
        await asyncio.sleep(0.001)
        return 0

    with pytest.raises(LoadError, match="LookupExact: every call missed"):
        await load._measure_all(
            [Workload("GetContext", hit, hit), Workload("LookupExact", miss, hit)],
            Plan(rounds=3, seconds=0.01),
            2,
            lambda *_: None,
        )


async def test_lookups_that_valkey_is_too_slow_for_are_misses_and_not_wrong_answers():
    class Freezing(Workloads):
        async def _store(self, users, prompts) -> None:
            await super()._store(users, prompts)
            signal_children(signal.SIGSTOP)

    def signal_children(number: int) -> None:
        for pid in children(server.pid):
            os.kill(pid, number)

    with RunningServer(environment={"RECOLLECT_CACHE_TIMEOUT": "0.04"}) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            made = Freezing(Connection(channel), EchoClient(channel), "slow", callers=1)
            try:
                with pytest.raises(LoadError, match="LookupExact: every call missed"):
                    await made.lookup_exact()
            finally:
                signal_children(signal.SIGCONT)


def test_the_figures_are_medians_over_slices():
    slices = [Slice(10, 3, 9), Slice(30, 1, 7), Slice(20, 2, 8)]
    assert middle(slices) == Slice(20, 2, 8)
    echoes = [Slice(20, 1, 1), Slice(40, 1, 1), Slice(80, 1, 1)]
    assert load.Measured(slices, echoes).ratio == 0.5
    assert scale.Pair(empty=echoes, full=slices).ratio == 2
    assert (plan(20).rounds, plan(20).seconds) == (20, 0.5)
    assert (plan(0.6).rounds, round(plan(0.6).seconds, 3)) == (3, 0.1)


def test_memory_is_that_of_a_process_and_its_descendants():
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    alone = scale.resident_mb(os.getpid())
    with echo_server():
        both = scale.resident_mb(os.getpid())
    assert alone is not None
    assert both is not None
    assert both > alone + 5
    assert scale.resident_mb(2**30) is None


def test_texts_are_repeatable_and_of_the_length_of_messages():
    first, second = Texts(7), Texts(7)
    texts = [first.message() for _ in range(500)]
    assert texts == [second.message() for _ in range(500)]
    assert all(SHORTEST <= len(text) <= LONGEST for text in texts)
    assert len(set(texts)) > 490
    assert len(first.paragraph(130).split()) >= 130
    assert first.question().endswith("?")
