"""What in a deployment can be killed, how, and how it comes back."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg
from tests.faults.deployment import Running, processes_in
from tests.harness import RunningServer, alive, children, eventually

RECOVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Victim:
    """A process that may die at any moment.

    Attributes:
        kill: ends it at once and returns when it is gone.
        restore: starts what nobody else starts, and returns once all parts run again; it fails the
            test if they do not within RECOVERY_SECONDS.
    """

    kill: Callable[[Running, Random], None]
    restore: Callable[[Running], None]


def _kill_server(running: Running, _: Random) -> None:
    running.server.kill()


def _restore_server(running: Running) -> None:
    """Start it again; nothing may be left of the one that died."""
    folder = running.server.data_dir.parent
    eventually(lambda: not processes_in(folder), RECOVERY_SECONDS)
    running.server.start()


def _kill_valkey(running: Running, _: Random) -> None:
    (pid,) = valkeys(running.server)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), RECOVERY_SECONDS)


def _restore_valkey(running: Running) -> None:
    eventually(lambda: valkeys(running.server), RECOVERY_SECONDS)


def _kill_worker(running: Running, _: Random) -> None:
    assert running.worker is not None
    running.worker.kill()


def _restore_worker(running: Running) -> None:
    """Start it again; nothing may be left of the one that died."""
    worker = running.worker
    assert worker is not None
    eventually(lambda: not processes_in(worker.folder), RECOVERY_SECONDS)
    worker.start()


def _kill_backend(running: Running, random: Random) -> None:
    """End one connection's process; PostgreSQL then ends all the others and recovers."""
    # There are none for a moment after the last time.
    pid = random.choice(eventually(lambda: _backends(running), RECOVERY_SECONDS))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), RECOVERY_SECONDS)


def _restore_backend(running: Running) -> None:
    eventually(lambda: _answers(running), RECOVERY_SECONDS)


def _kill_postgres(running: Running, _: Random) -> None:
    assert running.postgres is not None
    running.postgres.kill()


def _restore_postgres(running: Running) -> None:
    assert running.postgres is not None
    running.postgres.start()


def _backends(running: Running) -> list[int]:
    assert running.postgres is not None
    try:
        return sorted(running.postgres.backends(running.database_url))
    except psycopg.OperationalError:
        return []


def _answers(running: Running) -> bool:
    try:
        psycopg.connect(running.database_url).close()
    except psycopg.OperationalError:
        return False
    return True


VICTIMS: Mapping[str, Victim] = {
    "server": Victim(_kill_server, _restore_server),
    "valkey": Victim(_kill_valkey, _restore_valkey),
    "worker": Victim(_kill_worker, _restore_worker),
    "backend": Victim(_kill_backend, _restore_backend),
    "postgres": Victim(_kill_postgres, _restore_postgres),
}


def valkeys(server: RunningServer) -> list[int]:
    """Return the process ids of the server's embedded Valkey: one, or none while it starts."""
    found = []
    for pid in children(server.pid):
        try:
            program = Path(f"/proc/{pid}/exe").readlink().name
        except OSError:
            continue  # it ended meanwhile
        if "valkey" in program:
            found.append(pid)
    return found
