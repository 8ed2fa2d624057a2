"""How to start what the fault suite breaks: a server, its stores and its worker."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.harness import START_SECONDS, STOP_SECONDS, RunningServer, alive, clean_environment
from tests.postgres_server import PostgresServer

from recollect_server.stores.sql.migrate import migrate

RECENT = 3
IDLE_SECONDS = 2
ENVIRONMENT = {
    # Many summaries and episodes in little time.
    "RECOLLECT_SUMMARY_RECENT": str(RECENT),
    "RECOLLECT_EPISODE_IDLE_SECONDS": str(IDLE_SECONDS),
}


class Worker:
    """`recollect worker` in a folder of its own.

    Args:
        data_dir: of the server whose work it does.
    """

    def __init__(self, data_dir: Path, environment: dict[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="recollect-worker-"))
        self._data_dir = data_dir
        self._environment = clean_environment(**environment)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """Start, also again after `kill`, and return once it works."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "recollect_server", "worker"]
        command += ["--data-dir", str(self._data_dir), "--ready-file", str(ready)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, cwd=self.folder
            )
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the worker did not start:\n{self.log}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        self.process = None

    def stop(self) -> int:
        """End it by SIGTERM and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


@dataclass(slots=True)
class Running:
    """A deployment that runs.

    Attributes:
        worker: None if the server does the work itself.
        postgres: None for SQLite.
    """

    server: RunningServer
    worker: Worker | None = None
    postgres: PostgresServer | None = None
    database_url: str = ""

    def log(self) -> str:
        """What all of it said so far."""
        said = [f"# server\n{self.server.log}"]
        if self.worker is not None:
            said.append(f"# worker\n{self.worker.log}")
        if self.postgres is not None:
            said.append(f"# PostgreSQL\n{(self.postgres.folder / 'log').read_text()}")
        return "\n".join(said)

    def stop(self) -> list[str]:
        """End the processes by SIGTERM; return what did not end as it should."""
        found = []
        for name, process in (("worker", self.worker), ("server", self.server)):
            if process is None:
                continue
            if process.process is None:
                found.append(f"the {name} does not run")
            elif (code := process.stop()) != 0:
                found.append(f"the {name} ended with {code}")
        left = processes_of(self)
        return [*found, f"processes are left: {left}"] if left else found


@dataclass(frozen=True)
class Deployment:
    """What makes up a server."""

    name: str
    victims: tuple[str, ...]
    with_postgres: bool = False
    with_worker: bool = False
    environment: dict[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))

    @contextmanager
    def run(self) -> Iterator[Running]:
        """Yield it running; end all of it afterwards."""
        with ExitStack() as stack:
            environment, postgres, url = dict(self.environment), None, ""
            if self.with_postgres:
                postgres = stack.enter_context(PostgresServer())
                url = postgres.create()
                migrate(url)
                environment["DATABASE_URL"] = url
            flags = ("--no-worker",) if self.with_worker else ()
            server = stack.enter_context(RunningServer(*flags, environment=environment))
            running = Running(server, None, postgres, url)
            stack.callback(_end_processes, running)
            if self.with_worker:
                running.worker = Worker(server.data_dir, environment)
                stack.callback(shutil.rmtree, running.worker.folder, ignore_errors=True)
                stack.callback(_end_processes, running)
                running.worker.start()
            yield running


SQLITE = Deployment("sqlite", ("server", "valkey"))
DEPLOYMENTS = (
    SQLITE,
    Deployment("sqlite-worker", ("server", "valkey", "worker"), with_worker=True),
    Deployment("postgres", ("server", "valkey", "backend", "postgres"), with_postgres=True),
    Deployment(
        "postgres-worker",
        ("server", "valkey", "worker", "backend", "postgres"),
        with_postgres=True,
        with_worker=True,
    ),
)


def _end_processes(running: Running) -> None:
    """End what a failed test may leave: nobody else would."""
    for pid in processes_of(running):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if running.worker is not None and running.worker.process is not None:
        running.worker.process.wait(STOP_SECONDS)


def processes_of(running: Running) -> list[int]:
    """Return the processes of server and worker, with what they started."""
    found = processes_in(running.server.data_dir.parent)
    return found if running.worker is None else found + processes_in(running.worker.folder)


def processes_in(folder: Path) -> list[int]:
    """Return the processes that work in a folder, whoever their parent is now."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            inside = link.readlink().is_relative_to(folder)
        except OSError:
            continue  # it ended meanwhile, or is not ours
        if inside and alive(int(link.parent.name)):
            found.append(int(link.parent.name))
    return found
