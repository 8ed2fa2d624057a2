"""A mock of the Anthropic and OpenAI APIs: the npm package @copilotkit/aimock as a subprocess."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

_CLI = Path(__file__).parent / "node_modules/@copilotkit/aimock/dist/cli.js"
_START_SECONDS = 20.0


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MockLlm:
    """A mock server. Fixtures are tried in order; the first match answers.

    Args:
        folder: for the fixture file.
        fixtures: as in the package's documentation: `match` and `response`, with `chunkSize`,
            `latency`, `truncateAfterChunks` and `disconnectAfterMs` beside them.
    """

    def __init__(self, folder: Path, fixtures: list[dict[str, Any]], *arguments: str) -> None:
        if not _CLI.exists() or shutil.which("node") is None:
            if os.environ.get("CI") == "true":
                raise RuntimeError("node and `make tools` are required in CI")
            pytest.skip("needs node and `make tools`")
        file = folder / "fixtures.json"
        file.write_text(json.dumps({"fixtures": fixtures}))
        self.port = free_port()
        self._command = [
            "node", str(_CLI), "--port", str(self.port), "--fixtures", str(file),
            "--log-level", "silent", *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL for an SDK."""
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[dict[str, Any]]:
        """The bodies of the requests that came in, oldest first."""
        with urllib.request.urlopen(f"{self.url}/__aimock/journal", timeout=5) as response:
            entries = json.load(response)
        return [entry["body"] for entry in entries if entry.get("body")]

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.requests()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError("the mock API did not start") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
