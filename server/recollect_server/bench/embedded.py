"""Servers of the benchmark's own, in temporary folders."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_OUTSIDE = ("RECOLLECT_", "ANTHROPIC_", "OPENAI_", "REDIS_URL", "VALKEY_URL", "DATABASE_URL")


class StartError(RuntimeError):
    """The server did not start; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running server.

    Attributes:
        address: HOST:PORT.
    """

    address: str
    pid: int


@contextmanager
def embedded_server() -> Iterator[str]:
    """Start a server with everything embedded, give its address, and end it.

    Raises:
        StartError: it did not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="recollect-bench-") as folder,
        server_in(Path(folder)) as child,
    ):
        yield child.address


@contextmanager
def server_in(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Run a server whose data are in `folder`/data, and end it.

    Args:
        environment: settings of the server; those of this process do not count.

    Raises:
        StartError: it did not start.
    """
    folder.mkdir(exist_ok=True)
    data = str(data_dir(folder))
    arguments = ["recollect_server", "serve", "--listen", "127.0.0.1:0", "--data-dir", data]
    with _child("server", arguments, folder, environment or {}) as child:
        yield child


def data_dir(folder: Path) -> Path:
    """Return where a server of `server_in` keeps its data."""
    return folder / "data"


@contextmanager
def echo_server() -> Iterator[Child]:
    """Run the echo server, and end it.

    Raises:
        StartError: it did not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="recollect-bench-") as folder,
        _child("echo server", ["recollect_server.bench.echo"], Path(folder), {}) as child,
    ):
        yield child


@contextmanager
def _child(
    name: str, module: Sequence[str], folder: Path, more: Mapping[str, str]
) -> Iterator[Child]:
    ready, said = folder / "ready", folder / "log"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", *module, "--ready-file", str(ready)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OUTSIDE)} | dict(more)
    with said.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the command is written above
            command, stdout=log, stderr=log, env=environment
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"the {name} did not start:\n{said.read_text()}")
            time.sleep(0.02)
        yield Child(ready.read_text(), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
