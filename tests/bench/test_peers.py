"""The harness of other memory servers, without installing them."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from bench.peers.environments import Environment, NotHereError
from bench.peers.processes import awake, cpu_seconds, running
from bench.peers.work import OPERATIONS, Seen, timed
from tests.mocks.llm import free_port

from recollect_server.models.minilm import Encoder

ROOT = Path(__file__).parent.parent.parent


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_this_server_does_the_whole_work(tmp_path: Path):
    figures = tmp_path / "figures.json"
    options = ["--peers", "", "--callers", "2", "--rounds", "1", "--seconds", "0.1"]
    subprocess.run(
        [sys.executable, "-m", "bench.peers", *options, "--json", figures], cwd=ROOT, check=True
    )
    (found,) = json.loads(figures.read_text()).values()
    assert set(found) == set(OPERATIONS)
    assert all(found[operation]["rate"] > 0 for operation in OPERATIONS)


def test_the_endpoint_embeds_as_the_server_does(tmp_path: Path):
    port = free_port()
    command = [sys.executable, "-m", "bench.peers.embeddings", str(port)]
    texts = ["Ada lives in Lisbon.", "The harbour is near."]
    body = json.dumps({"input": texts, "model": "minilm"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/embeddings", body)
    with running(command, tmp_path / "log", {"PYTHONPATH": str(ROOT)}):
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    answer = json.load(response)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    encoder = Encoder.bundled(1)
    expected = encoder.vectors(encoder.tokenise(texts))
    vectors = np.array([item["embedding"] for item in answer["data"]])
    assert np.allclose(vectors, expected, atol=1e-5)


def test_who_is_not_measured_stands_still(tmp_path: Path):
    with running([sys.executable, "-c", "while True: pass"], tmp_path / "log") as pid:
        os.kill(pid, signal.SIGSTOP)
        with awake([pid]):
            before = cpu_seconds([pid])
            deadline = time.monotonic() + 30
            while cpu_seconds([pid]) == before:
                assert time.monotonic() < deadline
        deadline = time.monotonic() + 30
        while _state(pid) != "T":
            assert time.monotonic() < deadline
            time.sleep(0.01)


async def test_every_caller_calls_at_least_once():
    calls: list[int] = []

    async def call(caller: int) -> None:
        calls.append(caller)
        await asyncio.sleep(0)

    times, seconds = await timed(call, 3, 0.0)
    seen = Seen()
    seen.add(times, seconds)
    assert sorted(calls) == [0, 1, 2]
    assert len(times) == 3
    assert seen.rates[0] > 0


def test_a_peer_without_its_python_is_left_out():
    with pytest.raises(NotHereError, match=r"Python 2\.0"):
        Environment("none", "2.0", ()).make()


def test_profiles_name_no_folder_of_the_machine():
    spec = importlib.util.spec_from_file_location("profile_script", ROOT / "scripts/profile.py")
    assert spec is not None
    assert spec.loader is not None
    profile = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = profile
    spec.loader.exec_module(profile)
    samples = profile.stacks(
        "run (/home/me/lib/python3.11/asyncio/runners.py:5);"
        "append (/home/me/repo/server/recollect_server/stores/sql/messages.py:88) 7\n"
        "run (/home/me/lib/python3.11/asyncio/runners.py:9) 3\n"
    )
    assert {profile.part_of(stack): n for stack, n in samples.items()} == {
        "SQL": 7,
        "gRPC, event loop": 3,
    }
    drawn = profile.draw("a title", samples)
    assert "/home" not in drawn
    assert "append (recollect_server/stores/sql/messages.py): 70.0%" in drawn
