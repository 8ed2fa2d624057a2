"""`serve --workers N`: several server processes behind one port, kept running by their parent.

The processes share the port by SO_REUSEPORT, so the kernel spreads connections over them. The first
one does the background work; the embedded Valkey is the parent's, so it outlives each of them.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from grpc_health.v1 import health, health_pb2

from recollect_server.config import Settings
from recollect_server.models.minilm import usable_cores
from recollect_server.parts import StartError, open_database, open_valkey
from recollect_server.rpc.health import HealthEndpoint
from recollect_server.stores.valkey import _bound

log = structlog.get_logger("recollect.supervisor")

START_SECONDS = 120.0
POLL_SECONDS = 0.05
EXTRA_GRACE_SECONDS = 15.0
"""How much longer than draining a process may take to end."""

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 5.0
STABLE_SECONDS = 10.0
CONNECTION_AGE_SECONDS = 300
"""After this a connection is asked to come back, so that processes get their share; unless set."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(slots=True)
class _Child:
    """A server process.

    Attributes:
        began: seconds of a clock that does not jump.
        port_offset: what is added to the port of its metrics.
        leaving: it was told to end.
    """

    process: Process
    began: float
    port_offset: int
    leaving: bool = False


class Supervisor:
    """Runs server processes.

    Args:
        arguments: of `recollect`, as its user gave them; each process gets them too.
        address: HOST:PORT that they share.
        more: arguments that win over those.
    """

    def __init__(
        self, settings: Settings, arguments: Sequence[str], address: str, more: Sequence[str]
    ) -> None:
        self._settings = settings
        self._arguments = [*arguments, *more, "--workers", "1", "--share-port"]
        self._arguments += ["--listen", address, "--health-listen", ""]
        self._children: list[_Child | None] = [None] * settings.workers
        self._folder = Path(tempfile.mkdtemp(prefix="recollect-workers-"))
        activity = settings.activity_file or self._folder / "activity"
        self._arguments += ["--activity-file", str(activity)]
        self._started = 0
        # A process is replaced by one task at a time.
        self._replacing = asyncio.Lock()
        self.health = health.aio.HealthServicer()

    async def start(self) -> None:
        """Start all processes. Raises `StartError` if one does not start."""
        slots = range(self._settings.workers)
        launched = await asyncio.gather(
            *(self._launch(slot, slot) for slot in slots), return_exceptions=True
        )
        failures = []
        for slot, child in enumerate(launched):
            if isinstance(child, _Child):
                self._children[slot] = child
            else:
                failures.append(child)
        if failures:
            raise failures[0]
        await self._tell()

    async def watch(self) -> None:
        """Start processes again that end by themselves, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for slot in range(self._settings.workers):
                group.create_task(self._watch(slot))

    async def roll(self) -> None:
        """Replace every process by a new one, which serves before the old one drains."""
        log.info("rolling restart", processes=self._settings.workers)
        for slot in range(self._settings.workers):
            async with self._replacing:
                try:
                    fresh = await self._launch(slot, self._spare())
                except StartError as error:
                    log.error("rolling restart given up, the old processes stay", error=str(error))
                    return
                old, self._children[slot] = self._children[slot], fresh
                if old is not None:
                    await self._end(old)
        log.info("rolling restart done")

    async def stop(self) -> None:
        """Report NOT_SERVING, and have all processes drain and end."""
        await self.health.set("", _NOT_SERVING)
        await asyncio.gather(*(self._end(child) for child in self._children if child is not None))
        for file in self._folder.iterdir():
            file.unlink()
        self._folder.rmdir()

    async def _watch(self, slot: int) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            child = self._children[slot]
            if child is not None:
                code = await child.process.wait()
                if child.leaving or self._children[slot] is not child:
                    await asyncio.sleep(POLL_SECONDS)
                    continue
                log.error("a server process ended, starting it again", code=code, worker=slot)
                if time.monotonic() - child.began > STABLE_SECONDS:
                    backoff = FIRST_BACKOFF_SECONDS
                self._children[slot] = None
                await self._tell()
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)
            async with self._replacing:
                if self._children[slot] is not None:
                    continue
                try:
                    self._children[slot] = await self._launch(slot, self._spare())
                except StartError as error:
                    log.error("a server process did not start", worker=slot, error=str(error))
            await self._tell()

    def _spare(self) -> int:
        """Return what to add to the metrics' port: there is one more than there are processes."""
        used = {child.port_offset for child in self._children if child is not None}
        return min(set(range(self._settings.workers + 1)) - used)

    async def _tell(self) -> None:
        serving = any(child is not None for child in self._children)
        await self.health.set("", _SERVING if serving else _NOT_SERVING)

    async def _launch(self, slot: int, port_offset: int) -> _Child:
        """Start a process and wait until it serves. Raises `StartError`."""
        self._started += 1
        ready = self._folder / f"ready-{self._started}"
        process = await asyncio.create_subprocess_exec(
            # It dies with this process, even by SIGKILL.
            *(sys.executable, "-I", "-S", _bound.__file__, str(os.getpid())),
            *(sys.executable, "-m", "recollect_server", *self._arguments),
            *("--ready-file", str(ready), *self._own(slot, port_offset)),
            env=self._environment(),
            start_new_session=True,
        )
        child = _Child(process, time.monotonic(), port_offset)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not ready.exists():
                    if process.returncode is not None:
                        raise StartError(f"a server process ended with {process.returncode}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            await self._end(child)
            raise StartError(f"a server process does not serve in {START_SECONDS:.0f} s") from None
        except BaseException:
            await self._end(child)
            raise
        return child

    def _own(self, slot: int, port_offset: int) -> list[str]:
        arguments = ["--worker" if self._settings.worker and slot == 0 else "--no-worker"]
        if self._settings.metrics_listen:
            host, _, port = self._settings.metrics_listen.rpartition(":")
            own = int(port) and int(port) + port_offset
            arguments += ["--metrics-listen", f"{host}:{own}"]
        return arguments

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if not self._settings.embedding_threads:
            threads = max(1, usable_cores() // self._settings.workers)
            environment["RECOLLECT_EMBEDDING_THREADS"] = str(threads)
        if "max_connection_age" not in self._settings.model_fields_set:
            environment["RECOLLECT_MAX_CONNECTION_AGE"] = str(CONNECTION_AGE_SECONDS)
        return environment

    async def _end(self, child: _Child) -> None:
        child.leaving = True
        if child.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            child.process.terminate()
        try:
            async with asyncio.timeout(self._settings.grace_seconds + EXTRA_GRACE_SECONDS):
                await child.process.wait()
        except TimeoutError:
            log.error("a server process does not end, it is killed", pid=child.process.pid)
            with suppress(ProcessLookupError):
                child.process.kill()
            await child.process.wait()


async def supervise(
    settings: Settings, arguments: Sequence[str], on_ready: Callable[[str], None]
) -> None:
    """Run `settings.workers` server processes until SIGTERM or SIGINT, then have them drain.

    SIGHUP replaces them one after the other.

    Args:
        arguments: of `recollect`, as its user gave them.
        on_ready: called with the address once all of them serve.

    Raises:
        StartError: a part did not start.
    """
    ended, renewed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, renewed.set)
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as once:
            # A SQLite file is made or migrated by one process, and what is wrong is told once.
            await open_database(once, settings)
        reserved, address = _reserve(settings.listen)
        stack.callback(reserved.close)
        more: list[str] = []
        if not settings.state_url.get_secret_value():
            state_url, _ = await open_valkey(stack, settings)
            more = ["--state-url", state_url]
        supervisor = Supervisor(settings, arguments, address, more)
        if settings.health_listen:
            try:
                endpoint = HealthEndpoint(settings.health_listen, supervisor.health)
            except RuntimeError as error:
                raise StartError(
                    f"cannot listen on {settings.health_listen}: another program may use it"
                ) from error
            # A health service says SERVING until it is told otherwise.
            await supervisor.health.set("", _NOT_SERVING)
            await endpoint.start()
            stack.push_async_callback(endpoint.stop)
        stack.push_async_callback(supervisor.stop)
        await supervisor.start()
        on_ready(address)
        watching = asyncio.create_task(supervisor.watch())
        while not ended.is_set():
            waits = [asyncio.create_task(event.wait()) for event in (ended, renewed)]
            await asyncio.wait([*waits, watching], return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if renewed.is_set() and not ended.is_set():
                renewed.clear()
                rolling = asyncio.create_task(supervisor.roll())
                leaving = asyncio.create_task(ended.wait())
                await asyncio.wait([rolling, leaving], return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
                if not rolling.done():
                    rolling.cancel()
                    await asyncio.wait([rolling])
        watching.cancel()
        await asyncio.wait([watching])
        log.info("draining", grace_seconds=settings.grace_seconds)


def _reserve(listen: str) -> tuple[socket.socket, str]:
    """Bind the address without listening, so that nobody else takes it; return it with its port."""
    host, _, port = listen.rpartition(":")
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            # Who shares ports, shares them with every process of the same user.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
        reserved = socket.socket(family, kind)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(place)
    except OSError as error:
        raise StartError(f"cannot listen on {listen}: {error.strerror}") from error
    return reserved, f"{host}:{reserved.getsockname()[1]}"
