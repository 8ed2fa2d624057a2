"""A real server process for the suites that look at it from outside."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from recollect import AsyncRecollect, Recollect
from recollect.v1 import admin_pb2

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 40.0
_OUTSIDE = (
    "RECOLLECT_",
    "ANTHROPIC_",
    "OPENAI_",
    "REDIS_URL",
    "VALKEY_URL",
    "DATABASE_URL",
    "CHROMADB_URL",
    "QDRANT_",
)


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would configure a server."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_OUTSIDE)} | more


def unique(name: str) -> str:
    """Return an id that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def eventually(check: Any, seconds: float = 15.0) -> Any:
    """Return the first true result of `check`, or fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if result := check():
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {seconds} s: {check}")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended but was not waited for does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def grpcurl_path() -> Path:
    """Return grpcurl, or skip; in CI it must be there."""
    found = shutil.which("grpcurl", path=f"{ROOT / '.tools/bin'}:{os.environ.get('PATH', '')}")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("`make tools` must install grpcurl in CI")
        pytest.skip("needs grpcurl: `make tools` with Go")
    return Path(found)


def toolchain(program: str) -> str:
    """Return the path of a language's program, or skip; in CI it must be there."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is required in CI")
        pytest.skip(f"needs {program}")
    return found


class RunningServer:
    """`recollect serve` in a folder of its own.

    Args:
        flags: more of the command line.
        environment: more of the environment.
        start_seconds: how long it may take to serve.
    """

    def __init__(
        self,
        *flags: str,
        environment: dict[str, str] | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._start_seconds = start_seconds
        self._folder = Path(tempfile.mkdtemp(prefix="recollect-test-"))
        self.data_dir = self._folder / "data"
        self._flags = flags
        # A busy machine is no outage of the cache.
        patient = {"RECOLLECT_CACHE_TIMEOUT": "2"}
        self._environment = clean_environment(**(patient | (environment or {})))
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    @property
    def log(self) -> str:
        """What the server said so far."""
        return (self._folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> Self:
        """Start, also again on the same data, and return once it serves."""
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        listen = self.address or "127.0.0.1:0"
        command = [sys.executable, "-m", "recollect_server", "serve", "--listen", listen]
        command += ["--data-dir", str(self.data_dir), "--ready-file", str(ready), *self._flags]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, cwd=self._folder
            )
        deadline = time.monotonic() + self._start_seconds
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{self.log}")
            time.sleep(0.01)
        self.address = ready.read_text()
        return self

    def stop(self) -> int:
        """End it by SIGTERM and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        self.process = None

    def client(self, user_id: str | None = None, **more: Any) -> Recollect:
        """Return a client."""
        return Recollect(self.address, user_id=user_id, **more)

    def async_client(self, user_id: str | None = None, **more: Any) -> AsyncRecollect:
        """Return an asynchronous client."""
        return AsyncRecollect(self.address, user_id=user_id, **more)

    def index(self) -> admin_pb2.StoreInfo:
        """Return what it says of the index that answers recalls now."""
        with self.client() as client:
            stores = client.admin.get_server_info().stores
        return next(store for store in stores if store.name == "index")

    def raw(
        self, method: str, data: bytes, metadata: tuple[tuple[str, str], ...] = ()
    ) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
        """Send bytes to a unary method; return (code, message, trailing metadata)."""
        with grpc.insecure_channel(self.address) as channel:
            call = channel.unary_unary(f"/{method}")
            try:
                _, done = call.with_call(data, timeout=30, metadata=metadata)
            except grpc.RpcError as error:
                failed: Any = error
                return failed.code(), failed.details(), dict(failed.trailing_metadata() or ())
            return done.code(), "", dict(done.trailing_metadata() or ())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def details(trailing: dict[str, Any], kind: type[Message]) -> Any:
    """Return the rich detail of a kind from a failed call's trailing metadata."""
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            detail = kind()
            packed.Unpack(detail)
            return detail
    raise AssertionError(f"no {kind.DESCRIPTOR.name} in {status}")


def reason(trailing: dict[str, Any]) -> str:
    """Return the reason of a failed call."""
    return str(details(trailing, error_details_pb2.ErrorInfo).reason)
