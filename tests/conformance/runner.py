"""A client's runner: a process that executes steps, one JSON object a line; see README.md."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness import toolchain
from tests.java import START_QUICKLY, classpath
from tests.typescript import built, node

ROOT = Path(__file__).resolve().parents[2]
ANSWER_SECONDS = 60.0


def python() -> list[str]:
    """Return the command of the Python client's runner."""
    return [sys.executable, str(ROOT / "tests/conformance/runners/python.py")]


def go() -> list[str]:
    """Build the Go client's runner and return its command."""
    binary = str(ROOT / ".tools/conformance/go")
    build = [toolchain("go"), "build", "-o", binary, "./internal/conformance"]
    subprocess.run(build, cwd=ROOT / "clients/go", check=True)
    return [binary]


def java() -> list[str]:
    """Build the Java client's runner and return its command."""
    runner = "ai.recollect.conformance.Runner"
    return [toolchain("java"), *START_QUICKLY, "-cp", classpath(), runner]


def rust() -> list[str]:
    """Build the Rust client's runner and return its command."""
    client = ROOT / "clients/rust"
    build = [toolchain("cargo"), "build", "--quiet", "--locked", "-p", "recollect-internal"]
    subprocess.run([*build, "--bin", "conformance"], cwd=client, check=True)
    return [str(client / "target/debug/conformance")]


def typescript() -> list[str]:
    """Build the TypeScript client's runner and return its command."""
    return [node(), str(built() / "conformance/runner.js")]


LANGUAGES: dict[str, Callable[[], list[str]]] = {
    "python": python,
    "go": go,
    "typescript": typescript,
    "java": java,
    "rust": rust,
}
"""Each client's language, and what builds its runner and returns the command that starts it; it
skips without the language's toolchain, but fails in CI."""


class RunnerFailed(Exception):
    """The runner ended, or did not keep to the protocol."""


class Call:
    """A call that a runner was told to make.

    Attributes:
        items: what it yielded so far.
        end: its `result`, `value` or `error`, once it is there.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.items: list[Any] = []
        self.end: dict[str, Any] | None = None
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def wait(self, items: int | None = None) -> None:
        """Wait for its end, or for so many items, or its end if that is first."""
        while self.end is None and (items is None or len(self.items) < items):
            try:
                answer = self.answers.get(timeout=ANSWER_SECONDS)
            except queue.Empty:
                raise RunnerFailed(f"no answer within {ANSWER_SECONDS} s") from None
            if "item" in answer:
                self.items.append(answer["item"])
            else:
                self.end = answer


class Runner:
    """A running runner."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._calls: dict[int, Call] = {}
        self._lock = threading.Lock()
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def tell(self, do: str, **more: Any) -> Call:
        """Send a step and return without waiting."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        with self._lock:
            self._last += 1
            call = self._calls[self._last] = Call(self._last)
        line = json.dumps({"id": call.number, "do": do, **more})
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise RunnerFailed(f"the runner is gone: {error}") from None
        return call

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Send a step and return its answer."""
        call = self.tell(do, **more)
        call.wait()
        assert call.end is not None
        return call.end

    def stop(self) -> None:
        """End the process, as the end of its input says."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            with self._lock:
                self._calls[answer.pop("id")].answers.put(answer)
        gone = {"error": {"code": "RUNNER", "message": f"the runner ended with {process.wait()}"}}
        with self._lock:
            for call in self._calls.values():
                call.answers.put(gone)
