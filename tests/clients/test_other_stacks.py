"""Stubs that other stacks make of the contract work with the server, over TLS with a key."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.rpc import error_details_pb2
from grpc_tools import protoc
from tests.certificates import Authority
from tests.e2e.test_auth import key_of
from tests.harness import ROOT, RunningServer, grpcurl_path

PROTO = ROOT / "proto"
PROTOC = (f"-I{PROTO}", f"-I{PROTO / 'vendor'}", f"-I{Path(protoc.__file__).parent / '_proto'}")


@dataclass(frozen=True)
class Guarded:
    """A server with TLS that asks for a key."""

    address: str
    authority: Path
    key: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    (folder / "ca.crt").write_bytes(authority.pem)
    certificate, key = authority.issue("server", "127.0.0.1")
    (folder / "server.crt").write_bytes(certificate)
    (folder / "server.key").write_bytes(key)
    (folder / "server.key").chmod(0o600)
    tls = (f"--tls-cert={folder / 'server.crt'}", f"--tls-key={folder / 'server.key'}")
    with RunningServer("--auth", "api-key", *tls) as server:
        token = key_of(server, "other stack", "writer")
        yield Guarded(server.address, folder / "ca.crt", token)


def test_grpclib_calls_streams_and_reads_errors_by_its_own_stubs(guarded, tmp_path):
    sources = sorted(str(p.relative_to(PROTO)) for p in (PROTO / "recollect").rglob("*.proto"))
    plugin = Path(sys.executable).with_name("protoc-gen-grpclib_python")
    made = protoc.main(
        [
            "protoc",
            *PROTOC,
            f"--python_out={tmp_path}",
            f"--plugin=protoc-gen-grpclib_python={plugin}",
            f"--grpclib_python_out={tmp_path}",
            *sources,
            "buf/validate/validate.proto",
        ]
    )
    assert made == 0
    for folder in {path.parent for path in tmp_path.rglob("*.py")}:
        for package in (folder, *folder.parents):
            if package == tmp_path:
                break
            (package / "__init__.py").touch()
    program = Path(__file__).with_name("grpclib_chat.py")
    done = subprocess.run(
        [sys.executable, str(program), guarded.address, str(guarded.authority), guarded.key],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["title"] == "Travel"
    assert told["kinds"][0] == "started"
    assert told["kinds"].count("delta") > 1
    assert told["kinds"][-1] == "done"
    assert told["failed"] == {"status": "NOT_FOUND", "reason": "SESSION_NOT_FOUND"}


@pytest.mark.parametrize("described_by", ["reflection", "proto files"])
def test_grpcurl_calls_streams_and_reads_errors(guarded, described_by):
    files: list[str] = []
    for folder in (PROTO, PROTO / "vendor", Path(error_details_pb2.__file__).parents[2]):
        files += ["-import-path", str(folder)]
    for name in ("recollect/v1/memory", "recollect/v1/chat", "google/rpc/error_details"):
        files += ["-proto", f"{name}.proto"]

    def grpcurl(method: str, request: dict, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                str(grpcurl_path()),
                *("-cacert", str(guarded.authority)),
                *(files if described_by == "proto files" else []),
                *more,
                *("-d", json.dumps(request), guarded.address, f"recollect.v1.{method}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def known(method: str, request: dict, *more: str) -> subprocess.CompletedProcess[str]:
        return grpcurl(method, request, "-H", f"authorization: Bearer {guarded.key}", *more)

    created = known("MemoryService/CreateSession", {"user_id": "ada", "title": "Travel"})
    assert created.returncode == 0, created.stderr
    session = json.loads(created.stdout)["session"]
    message = {"role": "ROLE_USER", "parts": [{"text": "Say something."}]}
    turn = {"user_id": "ada", "session_id": session["sessionId"], "message": message}
    streamed = known("ChatService/StreamChat", turn)
    assert streamed.returncode == 0, streamed.stderr
    assert streamed.stdout.count('"delta"') > 1
    assert '"done"' in streamed.stdout
    missing = {"user_id": "ada", "session_id": "missing"}
    failed = known("MemoryService/GetSession", missing, "-format-error")
    assert "SESSION_NOT_FOUND" in failed.stderr
    unknown = grpcurl("MemoryService/GetSession", missing, "-format-error")
    assert "CREDENTIAL_MISSING" in unknown.stderr
