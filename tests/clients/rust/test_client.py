"""The Rust client: its own tests, its package as it would be published, and its example."""

import json
import subprocess
import sys
import tarfile

import pytest
from tests.clients.example import chats_and_remembers
from tests.harness import ROOT, eventually, toolchain

CLIENT = ROOT / "clients/rust"


def _run(*arguments: str, **more) -> str:
    done = subprocess.run(
        [toolchain("cargo"), *arguments],
        cwd=CLIENT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        **more,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass():
    assert "test result: ok" in _run("test", "--locked", "--workspace")


def test_its_package_has_what_it_is_built_from():
    _run("package", "--locked", "--allow-dirty", "--no-verify", "-p", "recollect-client")
    (package,) = (CLIENT / "target/package").glob("recollect-client-*.crate")
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        descriptors = archive.extractfile(f"{package.stem}/contract.binpb")
        assert descriptors is not None
        contract = descriptors.read()
    assert {"Cargo.toml", "README.md", "LICENSE", "build.rs", "src/lib.rs"} <= names
    assert contract == (ROOT / "server/recollect_server/rpc/contract.binpb").read_bytes()


def test_its_example_chats_and_remembers(server):
    chats_and_remembers(server, _run, "run", "--quiet", "--locked", "--example", "chat")


def _load(target: str, method: str) -> dict[str, float]:
    options = ("--concurrency", "2", "--duration", "0.5", "--target", target, "--method", method)
    load = ("run", "--quiet", "--locked", "-p", "recollect-internal", "--bin", "load", "--")
    found = json.loads(_run(*load, *options))
    assert found["method"] == method
    assert found["calls"] > 0
    assert found["rps"] == pytest.approx(found["calls"] / 0.5)
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    return found


def test_its_load_calls_every_method(server):
    for method in ("get_context", "append_messages", "lookup_exact"):
        assert "deltas_per_s" not in _load(server.address, method)
    turns = _load(server.address, "stream_chat")
    assert turns["deltas_per_s"] > turns["rps"]


def test_its_load_calls_the_yardstick(tmp_path):
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "recollect_server.bench.echo", "--ready-file", str(ready)]
    with subprocess.Popen(command) as echo:
        try:
            eventually(ready.exists)
            _load(ready.read_text(), "echo")
        finally:
            echo.terminate()
