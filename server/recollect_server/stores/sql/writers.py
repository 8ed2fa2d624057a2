"""Group commit: writers wait for the disk once a commit, not once each.

A thread takes everything that is queued, up to `MAX_GROUP` units, has it run in one transaction and
only then tells those who wait.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from recollect_server.errors import Reason, Unavailable
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Transaction
from recollect_server.timing import SIZES, Histogram

T = TypeVar("T")

MAX_GROUP = 256


@dataclass(slots=True)
class Unit:
    """A queued write: what to run, and what came of it.

    Attributes:
        queued: when it was queued, of `time.perf_counter`.
    """

    work: Callable[[Transaction], Any]
    scope: Scope | None
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    queued: float = field(default_factory=time.perf_counter)


class Committer(Protocol):
    """A connection that writes, used by one thread."""

    def commit(self, units: list[Unit]) -> None:
        """Run the units, each wholly or not at all, and set their result or error.

        What it raises is an outcome of all of them: nothing was written.
        """

    def close(self) -> None:
        """Close the connection."""


class Writers:
    """Threads that share one queue of writes.

    Args:
        make: makes a thread's connection, in that thread.
        name: of the threads.

    Attributes:
        group_sizes: units that shared a commit.
        waits: seconds that the first unit of a group waited for its turn.
    """

    def __init__(self, make: Callable[[], Committer], *, threads: int, name: str) -> None:
        self._make = make
        self._queue: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.group_sizes = Histogram(SIZES)
        self.waits = Histogram()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def write(self, work: Callable[[Transaction], T], scope: Scope | None) -> T:
        """See `Database`."""
        if self._closed:
            raise Unavailable(Reason.SHUTTING_DOWN, "the server is shutting down")
        unit = Unit(work, scope, self._loop.create_future())
        self._queue.put(unit)
        result: T = await unit.future
        return result

    @property
    def waiting(self) -> int:
        """Units that no thread has taken yet."""
        return self._queue.qsize()

    async def close(self) -> None:
        """Finish what was accepted and end the threads."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _run(self) -> None:
        committer = self._make()
        while True:
            units, ended = self._take()
            if units:
                waited = time.perf_counter() - units[0].queued
                try:
                    committer.commit(units)
                except Exception as error:  # noqa: BLE001 - those who wait get it
                    for unit in units:
                        unit.result, unit.error = None, error
                self._loop.call_soon_threadsafe(self._tell, units, waited)
            if ended:
                committer.close()
                return

    def _take(self) -> tuple[list[Unit], bool]:
        """Wait for a unit, then take what else is queued; True when there will be no more."""
        first = self._queue.get()
        if first is None:
            return [], True
        units = [first]
        while len(units) < MAX_GROUP:
            try:
                unit = self._queue.get_nowait()
            except queue.Empty:
                break
            if unit is None:
                return units, True
            units.append(unit)
        return units, False

    def _tell(self, units: list[Unit], waited: float) -> None:
        self.group_sizes.observe(len(units))
        self.waits.observe(waited)
        for unit in units:
            if unit.future.done():
                continue
            if unit.error is not None:
                unit.future.set_exception(unit.error)
            else:
                unit.future.set_result(unit.result)
