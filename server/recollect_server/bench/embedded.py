"""A server of the benchmark's own, in a temporary folder."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class StartError(RuntimeError):
    """The server did not start; the message holds what it said."""


@contextmanager
def embedded_server() -> Iterator[str]:
    """Start a server with everything embedded, give its address, and end it."""
    with tempfile.TemporaryDirectory(prefix="recollect-bench-") as folder:
        ready, said = Path(folder, "ready"), Path(folder, "log")
        command = [sys.executable, "-m", "recollect_server", "serve", "--listen", "127.0.0.1:0"]
        command += ["--data-dir", str(Path(folder, "data")), "--ready-file", str(ready)]
        outside = ("RECOLLECT_", "ANTHROPIC_", "REDIS_URL", "VALKEY_URL", "DATABASE_URL")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(outside)}
        with said.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the command is written above
                command, stdout=log, stderr=log, env=environment
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StartError(f"the embedded server did not start:\n{said.read_text()}")
                time.sleep(0.02)
            yield ready.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
