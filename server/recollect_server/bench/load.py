"""`recollect bench load`: how many calls a second, beside those of a bare gRPC server."""

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import grpc

from recollect._settings import Settings
from recollect_server.bench.connection import CHANNEL_OPTIONS, Connection, LoadError, open_channel
from recollect_server.bench.echo import EchoClient
from recollect_server.bench.slices import Plan, Slice, measure, middle, plan
from recollect_server.bench.workloads import Workload, Workloads

WARM_SECONDS = 0.3
STREAM = "StreamChat"
YARDSTICK = "GetContext"
"""The echo of this method's messages is the one that the results give whole."""

Progress = Callable[[str, int, int], None]
"""Called with a stage, what is done and what there is to do."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The slices of a method and, at the same positions, those of its echo just before."""

    slices: list[Slice] = field(default_factory=list)
    echoes: list[Slice] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median of the method's rate / its echo's."""
        pairs = zip(self.slices, self.echoes, strict=True)
        return median(slice_.rate / echo.rate for slice_, echo in pairs)


@dataclass(frozen=True, slots=True)
class LoadRun:
    """A finished run.

    Attributes:
        methods: in the order of measurement.
        embed_per_s: texts embedded a second while nothing else ran.
        deltas_per_reply: of StreamChat.
        not_served: methods that the server does not serve, left out.
        callers: calls that ran at a time.
    """

    methods: dict[str, Measured]
    embed_per_s: float
    deltas_per_reply: int
    not_served: tuple[str, ...]
    callers: int


async def run(
    server: Settings,
    echo_address: str,
    *,
    duration: float,
    callers: int,
    progress: Progress,
) -> LoadRun:
    """Measure every method in short slices that take turns with slices of its echo.

    Args:
        server: whom to call, and how.
        echo_address: HOST:PORT of `recollect_server.bench.echo`.
        duration: seconds for each method, half of them for its echo.
        callers: how many calls run at a time.

    Raises:
        grpc.aio.AioRpcError: a call failed.
        LoadError: the server's answers are not what is to be measured.
    """
    async with (
        open_channel(server) as channel,
        grpc.aio.insecure_channel(echo_address, CHANNEL_OPTIONS) as echo_channel,
    ):
        made = Workloads(
            Connection(channel, server.metadata),
            EchoClient(echo_channel),
            uuid.uuid4().hex[:8],
            callers,
        )
        recall, embed_per_s = await made.recall(
            lambda done, total: progress("embedding users", done, total)
        )
        semantic = await made.lookup_semantic()
        chat, deltas = await made.stream_chat()
        workloads = [
            await made.get_context(),
            await made.append_messages(),
            await made.lookup_exact(),
            *([semantic] if semantic else ()),
            recall,
            chat,
        ]
        methods = await _measure_all(workloads, plan(duration), callers, progress)
    return LoadRun(
        methods=methods,
        embed_per_s=embed_per_s,
        deltas_per_reply=deltas,
        not_served=() if semantic else ("LookupSemantic",),
        callers=callers,
    )


async def _measure_all(
    workloads: Sequence[Workload], planned: Plan, callers: int, progress: Progress
) -> dict[str, Measured]:
    found: dict[str, Measured] = defaultdict(Measured)
    warm = min(WARM_SECONDS, planned.seconds)
    for workload in workloads:
        await measure(workload.echo, callers, warm)
        await measure(workload.call, callers, warm)
        await _settle(workload)
    total = planned.rounds * len(workloads)
    for done in range(total):
        workload = workloads[done % len(workloads)]
        measured = found[workload.name]
        measured.echoes.append(await measure(workload.echo, callers, planned.seconds))
        measured.slices.append(await measure(workload.call, callers, planned.seconds))
        await _settle(workload)
        progress("measuring", done + 1, total)
    for name, measured in found.items():
        if not any(slice_.rate for slice_ in measured.slices):
            raise LoadError(f"{name}: every call missed")
    return dict(found)


async def _settle(workload: Workload) -> None:
    if workload.settle is not None:
        await workload.settle()


def results(run: LoadRun) -> dict[str, object]:
    """Return the run as the JSON of `--json`: rates a second, times in milliseconds."""
    return {
        "echo": _plain(middle(run.methods[YARDSTICK].echoes)),
        "rpcs": {
            name: _method(measured) if name != STREAM else _stream(measured, run.deltas_per_reply)
            for name, measured in run.methods.items()
        },
        "embed_per_s": round(run.embed_per_s, 1),
        "concurrency": run.callers,
    }


def _plain(figures: Slice) -> dict[str, float]:
    return {
        "rps": round(figures.rate, 1),
        "p50_ms": round(figures.p50_ms, 3),
        "p99_ms": round(figures.p99_ms, 3),
    }


def _method(measured: Measured) -> dict[str, float]:
    return {
        **_plain(middle(measured.slices)),
        "missed": middle(measured.slices).missed,
        "ratio_to_echo": round(measured.ratio, 4),
        "echo_rps": round(middle(measured.echoes).rate, 1),
    }


def _stream(measured: Measured, deltas: int) -> dict[str, float]:
    return {
        "deltas_per_s": round(middle(measured.slices).rate, 1),
        "ratio_to_echo_stream": round(measured.ratio, 4),
        "echo_deltas_per_s": round(middle(measured.echoes).rate, 1),
        "deltas_per_reply": deltas,
    }
