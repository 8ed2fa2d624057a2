"""`recollect bench scale`: what a full store costs, beside an empty one."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median

import grpc

from recollect_server.bench.connection import (
    CHANNEL_OPTIONS,
    Backlog,
    Connection,
    append_request,
    context_request,
)
from recollect_server.bench.embedded import Child, data_dir, server_in
from recollect_server.bench.fill import Fill, fill, session_name, user_name
from recollect_server.bench.slices import Call, Plan, Slice, measure, plan
from recollect_server.bench.texts import Texts

CALLERS = 4
MEASURED_USERS = 64
"""Most users that calls go to: spread over the full store, and the only ones of the empty one."""

EMPTY_MESSAGES_A_USER = 100
WARM_SECONDS = 0.3
METHODS = ("GetContext", "AppendMessages")

Progress = Callable[[str, int, int], None]
"""Called with a stage, what is done and what there is to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A method's slices on both stores, at the same position those of the same moment."""

    empty: list[Slice] = field(default_factory=list)
    full: list[Slice] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median of the full store's p50 / the empty one's."""
        pairs = zip(self.full, self.empty, strict=True)
        return median(full.p50_ms / empty.p50_ms for full, empty in pairs)


@dataclass(frozen=True, slots=True)
class ScaleRun:
    """A finished run.

    Attributes:
        rss_mb: MB of resident memory of the server's own processes, without Valkey's, after the
            measurement: (empty, full); None where the system does not tell.
        bytes_per_message: size of the full store's file / messages.
    """

    wanted: Fill
    methods: dict[str, Pair]
    rss_mb: tuple[float | None, float | None]
    bytes_per_message: float


class _Store:
    """One of the two servers and the calls to it."""

    def __init__(self, connection: Connection, users: list[str]) -> None:
        self._connection = connection
        self._users = users
        self._texts = Texts(3)
        # A shuffled order visits all users as often, whichever caller takes the next one.
        random.Random(3).shuffle(users)  # noqa: S311 - an order, not a secret
        self._next = cycle(users)
        self.backlog = Backlog(connection, users)

    def call(self, method: str) -> Call:
        return self._get_context if method == "GetContext" else self._append

    async def warm(self) -> None:
        """Bring every measured window into the cache, as in a server that runs for a while."""
        for user in self._users:
            request = context_request(user, session_name(0))
            await self._connection.memory.GetContext(request, **self._connection.options)

    async def _get_context(self, caller: int) -> int:
        request = context_request(next(self._next), session_name(0))
        await self._connection.memory.GetContext(request, **self._connection.options)
        return 1

    async def _append(self, caller: int) -> int:
        # Another session than GetContext's, whose cached window would be out of date.
        request = append_request(next(self._next), session_name(1), [self._texts.message()])
        await self._connection.memory.AppendMessages(request, **self._connection.options)
        return 1


def run(
    folder: Path, wanted: Fill, *, database: Path | None, duration: float, progress: Progress
) -> ScaleRun:
    """Fill two stores, serve both and measure them in turns.

    Args:
        folder: an empty one, for everything.
        database: the full store's SQLite file, which must not exist; None: one in `folder`.
        duration: seconds for each method, half of them for each store.

    Raises:
        FileExistsError: `database` exists.
        StartError: a server did not start.
        grpc.aio.AioRpcError: a call failed.
    """
    measured = min(wanted.users, MEASURED_USERS)
    folders = (folder / "empty", folder / "full")
    empty_file, full_file = (data_dir(f) / "recollect.db" for f in folders)
    environment: dict[str, str] = {}
    if database is not None:
        full_file = database.absolute()
        environment["RECOLLECT_DATABASE_URL"] = f"sqlite:///{full_file}"
    size = fill(full_file, wanted, lambda done, total: progress("filling", done, total))
    few = Fill(min(wanted.messages, EMPTY_MESSAGES_A_USER * measured), measured)
    fill(empty_file, few, lambda done, total: None)
    with server_in(folders[0]) as empty, server_in(folders[1], environment) as full:
        methods = _measure(empty, full, wanted, measured, plan(duration), progress)
        rss_mb = (resident_mb(empty.pid), resident_mb(full.pid))
    return ScaleRun(wanted, methods, rss_mb, size / wanted.messages)


def _measure(
    empty: Child, full: Child, wanted: Fill, measured: int, planned: Plan, progress: Progress
) -> dict[str, Pair]:
    import uvloop

    async def both() -> dict[str, Pair]:
        async with AsyncExitStack() as stack:
            connections = [
                Connection(
                    await stack.enter_async_context(
                        grpc.aio.insecure_channel(child.address, CHANNEL_OPTIONS)
                    )
                )
                for child in (empty, full)
            ]
            step = wanted.users // measured
            stores = (
                _Store(connections[0], [user_name(n) for n in range(measured)]),
                _Store(connections[1], [user_name(n * step) for n in range(measured)]),
            )
            return await _take_turns(stores, planned, progress)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(both())


async def _take_turns(
    stores: tuple[_Store, _Store], planned: Plan, progress: Progress
) -> dict[str, Pair]:
    for store in stores:
        await store.backlog.open()
        await store.warm()
        for method in METHODS:
            await measure(store.call(method), CALLERS, min(WARM_SECONDS, planned.seconds))
        await store.backlog.drain()
    found = {method: Pair() for method in METHODS}
    total = planned.rounds * len(METHODS)
    for done in range(total):
        method = METHODS[done % len(METHODS)]
        # Coming first may be of advantage, so each store does as often.
        for full in (False, True) if done // len(METHODS) % 2 else (True, False):
            store, pair = stores[full], found[method]
            slice_ = await measure(store.call(method), CALLERS, planned.seconds)
            (pair.full if full else pair.empty).append(slice_)
            if method == "AppendMessages":
                await store.backlog.drain()
        progress("measuring", done + 1, total)
    return found


def resident_mb(pid: int) -> float | None:
    """Return the resident memory of a process and its descendants but Valkey, in MB of 10^6 bytes.

    None where there is no /proc.
    """
    parents: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(
                line.split(":", 1) for line in (folder / "status").read_text().splitlines()
            )
        except (OSError, ValueError):
            continue
        if "VmRSS" in status and "valkey" not in status["Name"]:
            number = int(folder.name)
            parents[number] = int(status["PPid"])
            sizes[number] = int(status["VmRSS"].split()[0]) * 1024
    if pid not in sizes:
        return None
    family = {pid}
    while more := {n for n, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(sizes[n] for n in family) / 1e6


def results(run: ScaleRun) -> dict[str, object]:
    """Return the run as the JSON of `--json`: times in milliseconds, memory in MB."""
    empty_mb, full_mb = (None if mb is None else round(mb, 1) for mb in run.rss_mb)
    return {
        "messages": run.wanted.messages,
        "users": run.wanted.users,
        **{
            method: {
                "empty_p50_ms": round(median(s.p50_ms for s in pair.empty), 3),
                "full_p50_ms": round(median(s.p50_ms for s in pair.full), 3),
                "ratio": round(pair.ratio, 4),
            }
            for method, pair in run.methods.items()
        },
        "rss_mb": {"empty": empty_mb, "full": full_mb},
        "bytes_per_message": round(run.bytes_per_message, 1),
    }
