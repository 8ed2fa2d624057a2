"""Everything a production server stands on, as real processes, each of which can fail."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.api import HEALTHY, Api, Fixtures
from tests.faults.deployment import ENVIRONMENT, Running, Worker, processes_of
from tests.faults.link import Link, through
from tests.harness import RunningServer, children
from tests.postgres_server import PostgresServer
from tests.stores.valkey.valkey_server import Server as Valkey
from tests.stores.vectors.setups import chroma_server

from recollect_server.stores.sql.migrate import migrate

PROCESSES = 2
REPLY = "The garden is behind the museum."
FIXTURES: Fixtures = [*HEALTHY, {"match": {}, "response": {"content": REPLY}}]


@dataclass
class Chroma:
    """A Chroma server that comes back at the same address, with its data or without."""

    folder: Path
    url: str = ""
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        self.url = self._running.enter_context(chroma_server(self.folder, port))

    def stop(self) -> None:
        self._running.close()

    def lose(self) -> None:
        """Remove all of its data; it must not run."""
        shutil.rmtree(self.folder)


@dataclass
class Stack:
    """Two server processes, a worker, and their stores."""

    running: Running
    postgres: PostgresServer
    valkey: Valkey
    chroma: Chroma
    api: Api
    links: tuple[Link, ...]

    @property
    def address(self) -> str:
        """The servers' address."""
        return self.running.server.address

    def servers(self) -> list[int]:
        """Return the process ids of the server processes, oldest first."""
        found = {}
        for pid in children(self.running.server.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                found[pid] = _begun(pid)
            except OSError:
                continue  # it ended meanwhile
            if b"recollect_server" not in command:
                del found[pid]
        return sorted(found, key=found.__getitem__)

    def kill_a_server(self) -> None:
        """End the younger process, so that the memory of the older one is seen all the time."""
        os.kill(self.servers()[-1], signal.SIGKILL)

    def watched(self) -> dict[str, int]:
        """Return the processes that no fault ends, by name."""
        server, worker = self.running.server, self.running.worker
        assert worker is not None
        assert worker.process is not None
        return {
            "supervisor": server.pid,
            "server": self.servers()[0],
            "worker": worker.process.pid,
        }


def _begun(pid: int) -> int:
    """Return when a process began, in ticks of the system's clock."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@contextmanager
def stack_in(folder: Path) -> Iterator[Stack]:
    """Yield all of it running; end all of it afterwards."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        valkey = Valkey()
        stack.callback(valkey.close)
        valkey.start()
        chroma = Chroma(folder / "chroma")
        chroma.start()
        stack.callback(chroma.stop)
        api = Api(folder, FIXTURES)
        api.up()
        stack.callback(api.down)
        direct = postgres.create()
        migrate(direct)
        to_postgres = stack.enter_context(Link(postgres.folder / ".s.PGSQL.5432"))
        to_valkey = stack.enter_context(Link(valkey.port))
        url = through(direct, to_postgres)
        environment = ENVIRONMENT | {
            "DATABASE_URL": url,
            "VALKEY_URL": f"valkey://127.0.0.1:{to_valkey.port}",
            "CHROMADB_URL": chroma.url.removeprefix("chroma+"),
            "ANTHROPIC_API_KEY": "test",
            "RECOLLECT_ANTHROPIC_BASE_URL": api.url,
        }
        server = stack.enter_context(
            RunningServer(
                *("--workers", str(PROCESSES), "--no-worker"),
                environment=environment,
                start_seconds=180.0,
            )
        )
        worker = Worker(server.data_dir, environment)
        stack.callback(shutil.rmtree, worker.folder, ignore_errors=True)
        running = Running(server, worker, postgres, direct)
        stack.callback(_end, running)
        worker.start()
        yield Stack(running, postgres, valkey, chroma, api, (to_postgres, to_valkey))


def _end(running: Running) -> None:
    """End what a failed test may leave."""
    for pid in processes_of(running):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert running.worker is not None
    if running.worker.process is not None:
        running.worker.process.wait(30)
