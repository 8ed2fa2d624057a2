"""The servers that scenarios run against, started when first asked for."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.harness import RunningServer, children, clean_environment
from tests.mocks.llm import MockLlm

CERTIFICATE = Path(__file__).parents[1] / "stores/valkey/tls/localhost.crt"
DAY_MICROSECONDS = 24 * 3600 * 1_000_000

_KEYS = ("--auth", "api-key")
_TLS = ("--tls-cert", str(CERTIFICATE), "--tls-key", str(CERTIFICATE.with_suffix(".key")))


def _failure(status: int, kind: str, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind}, "status": status, **more}


ANSWERS: list[dict[str, Any]] = [
    {"match": {"userMessage": "<"}, "response": {"content": ""}},
    {"match": {"userMessage": "tell"}, "response": {"content": "word " * 60},
     "chunkSize": 5, "latency": 40},
    {"match": {"userMessage": "busy"}, "response": _failure(529, "overloaded_error")},
    {"match": {"userMessage": "limited"},
     "response": _failure(429, "rate_limit_error", retryAfter=30)},
    {"match": {"userMessage": "no credit"}, "response": _failure(401, "authentication_error")},
    {"match": {"userMessage": "too much"},
     "response": _failure(400, "invalid_request_error", "prompt is too long: 9 > 8")},
    {"match": {"userMessage": "not so"}, "response": _failure(400, "invalid_request_error")},
    {"match": {"userMessage": "broken"}, "response": {"content": "word " * 40},
     "chunkSize": 5, "latency": 10, "truncateAfterChunks": 8},
    {"match": {"userMessage": "weather"}, "response": {"toolCalls": [
        {"name": "get_weather", "arguments": '{"city": "Lisbon"}'}]}},
    # With pauses, so that a client has seen the first events when the connection breaks later.
    {"match": {"userMessage": "hello"}, "response": {"content": "Hello to you too."},
     "chunkSize": 4, "latency": 60},
]  # fmt: skip
"""How the mock of a model's API answers what a scenario says to it: the first match, and nothing to
the server's own questions, which begin with a tag."""


class Servers:
    """A server of each kind: `plain`, `keys`, `tls` (keys as well), `model`, and `frail`, which
    scenarios may stop and break. They share them, each with a user of its own.

    Args:
        folder: for files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._running: dict[str, RunningServer] = {}
        self._admin_keys: dict[str, str] = {}

    def close(self) -> None:
        """End all servers."""
        self._stack.close()

    def get(self, kind: str) -> RunningServer:
        """Return the shared server of a kind."""
        if kind not in self._running:
            self._running[kind] = self._stack.enter_context(self._new(kind))
        if self._running[kind].process is None:
            self._running[kind].start()
        return self._running[kind]

    def _new(self, kind: str) -> RunningServer:
        if kind == "model":
            mock = self._stack.enter_context(MockLlm(self._folder, ANSWERS))
            return RunningServer(
                "--anthropic-base-url", mock.url, environment={"ANTHROPIC_API_KEY": "test"}
            )
        flags = {"plain": (), "frail": (), "keys": _KEYS, "tls": (*_KEYS, *_TLS)}[kind]
        return RunningServer(*flags)

    def admin_key(self, kind: str) -> str:
        """Return a key of the role ADMIN, made on the server's machine."""
        if kind not in self._admin_keys:
            folder = str(self.get(kind).data_dir)
            done = subprocess.run(
                [sys.executable, "-m", "recollect_server", "keys", "create",
                 "--data-dir", folder, "--name", "conformance", "--role", "admin"],
                capture_output=True,
                text=True,
                env=clean_environment(),
                timeout=60,
                check=True,
            )  # fmt: skip
            self._admin_keys[kind] = done.stdout.strip()
        return self._admin_keys[kind]


def act(server: RunningServer, what: str) -> None:
    """Do to a server what a step says.

    Args:
        what: `stop`, `kill`, `start`, `restart`, `stop_valkey` and then `kill_valkey`, or
            `age_changes`, which makes what a watch can resume from older than the server keeps.
    """
    match what:
        case "stop":
            server.stop()
        case "kill":
            server.kill()
        case "start":
            server.start()
        case "restart":
            server.stop()
            server.start()
        case "stop_valkey":
            (valkey,) = children(server.pid)
            os.kill(valkey, signal.SIGSTOP)
        case "kill_valkey":
            (valkey,) = children(server.pid)
            os.kill(valkey, signal.SIGKILL)
        case "age_changes":
            database = server.data_dir / "recollect.db"
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute("UPDATE changes SET time = time - ?", (8 * DAY_MICROSECONDS,))
        case _:
            raise ValueError(what)
