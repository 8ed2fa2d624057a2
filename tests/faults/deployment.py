"""How to start what the fault suite breaks, and what in it can be broken."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.harness import RunningServer, alive, children, eventually

RECOVERY_SECONDS = 30.0


class Victim(Protocol):
    """A process of a deployment that may die at any moment."""

    @property
    def name(self) -> str:
        """What a test's id calls it."""

    def kill(self, server: RunningServer) -> None:
        """End it by SIGKILL and return once it is gone."""

    def restore(self, server: RunningServer) -> None:
        """Start what nobody else starts, and return once all parts run again.

        Raises:
            pytest.fail.Exception: they do not within RECOVERY_SECONDS.
        """


@dataclass(frozen=True)
class ServerProcess:
    """The server itself."""

    name: str = "server"

    def kill(self, server: RunningServer) -> None:
        """See `Victim`."""
        server.kill()

    def restore(self, server: RunningServer) -> None:
        """See `Victim`; nothing may be left of the server that died."""
        eventually(lambda: not processes_of(server), RECOVERY_SECONDS)
        server.start()


@dataclass(frozen=True)
class ValkeyProcess:
    """The server's embedded Valkey, which the server starts again."""

    name: str = "valkey"

    def kill(self, server: RunningServer) -> None:
        """See `Victim`."""
        (pid,) = valkeys(server)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid), RECOVERY_SECONDS)

    def restore(self, server: RunningServer) -> None:
        """See `Victim`."""
        eventually(lambda: valkeys(server), RECOVERY_SECONDS)


@dataclass(frozen=True)
class Deployment:
    """A server with its stores.

    Attributes:
        victims: what a test may kill.
        flags: more of the server's command line.
        environment: more of its environment.
        stores: starts stores of their own and yields what the environment must say of them.
    """

    name: str
    victims: tuple[Victim, ...]
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    stores: Callable[[], AbstractContextManager[Mapping[str, str]]] = lambda: nullcontext({})

    @contextmanager
    def run(self) -> Iterator[RunningServer]:
        """Yield the running server; end it and its stores afterwards."""
        with self.stores() as found:
            environment = {**self.environment, **found}
            with RunningServer(*self.flags, environment=environment) as server:
                try:
                    yield server
                finally:
                    # A failed test may leave processes that nobody else would end.
                    for pid in processes_of(server):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)


EMBEDDED = Deployment("sqlite", victims=(ServerProcess(), ValkeyProcess()))


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


def processes_of(server: RunningServer) -> list[int]:
    """Return the processes that work in the server's folder, whoever their parent is now."""
    folder = server.data_dir.parent
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            inside = link.readlink().is_relative_to(folder)
        except OSError:
            continue  # it ended meanwhile, or is not ours
        if inside and alive(int(link.parent.name)):
            found.append(int(link.parent.name))
    return found
