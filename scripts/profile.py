"""Where the time of each hot call goes: flame graphs and a table of shares, by py-spy.

    python scripts/profile.py [--seconds 10] [--out docs/performance] [METHOD...]

Each method has a server with everything embedded, under the load of `recollect bench load`, while
py-spy looks which thread holds the interpreter's lock, and where: that is what bounds the rate.
Every sample counts for the innermost frame that belongs to a part of `PARTS`; what C code does
counts for the Python frame that called it. A thread's processor time, measured without py-spy, is
divided by its samples. Background work is left out where the call needs none.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import grpc
import uvloop

from recollect_server.bench.connection import CHANNEL_OPTIONS, Connection
from recollect_server.bench.echo import EchoClient
from recollect_server.bench.embedded import echo_server, server_in
from recollect_server.bench.slices import measure
from recollect_server.bench.workloads import Workload, Workloads

ROOT = Path(__file__).parent.parent
METHODS = ("get_context", "append_messages", "lookup_exact", "recall", "stream_chat")
WITH_WORKER = frozenset({"recall", "stream_chat"})
CALLERS = 16
SAMPLES_PER_SECOND = 250

PARTS = (
    ("gRPC, event loop", r"grpc/|uvloop|asyncio/|recollect_server/(cli|app|__main__)|^$"),
    ("check of the request", r"protovalidate|rpc/(times|violations)|in check \(.*interceptors"),
    ("other interceptors", r"rpc/(interceptors|counting|registry|call|auth)|structlog|admin/gate"),
    ("conversion, protobuf", r"rpc/|google/protobuf"),
    ("SQL", r"stores/sql/"),
    ("Valkey's client", r"stores/valkey|valkey/|redis/"),
    ("embedding", r"models/|onnxruntime|tokenizers"),
    ("ranking", r"memory/recall/|stores/exact/"),
    ("the rest of this server", r"recollect_server/|msgspec|hashlib"),
)

NO_PYTHON = "threads without Python: gRPC's, onnxruntime's"

WIDTH, ROW, SMALLEST = 1200, 16, 0.002


@dataclass(slots=True)
class Node:
    """A frame of the graph and what it called."""

    count: int = 0
    inner: dict[str, "Node"] = field(default_factory=dict)


def stacks(raw: str) -> Counter[tuple[str, ...]]:
    """Read py-spy's raw format; paths are shortened to where a package begins."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        found[tuple(_short(frame) for frame in stack.split(";"))] += int(count)
    return found


def _short(frame: str) -> str:
    """Return `function (package/module.py)`; lines would only make many frames of one."""
    frame = re.sub(r":\d+\)$", ")", frame)
    return re.sub(r"\([^()]*?/(?:site-packages|server|python3\.\d+)/", "(", frame)


def part_of(stack: tuple[str, ...]) -> str:
    """Return the part that a sample counts for."""
    for frame in reversed(stack):
        for name, pattern in PARTS:
            where = frame.partition(" (")[2] or frame
            if re.search(pattern, f"in {frame}" if "in check" in pattern else where):
                return name
    return PARTS[0][0]


def draw(title: str, samples: Counter[tuple[str, ...]]) -> str:
    """Return a flame graph as SVG: the outermost frames at the top, widths by samples."""
    root = Node()
    for stack, count in samples.items():
        node = root
        node.count += count
        for frame in stack:
            node = node.inner.setdefault(frame, Node())
            node.count += count
    boxes = list(_boxes(root, 0.0, 0, root.count))
    height = ROW * (max(depth for *_, depth in boxes) + 3)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="4" y="14" font-size="13">{escape(title)}</text>',
    ]
    for name, share, left, depth in boxes:
        width, top = share * WIDTH, ROW * (depth + 1.5)
        hue = 10 + sum(name.encode()) % 45
        text = escape(name[: int(width / 6.2)]) if width > 30 else ""
        lines.append(
            f'<g><title>{escape(name)}: {share:.1%}</title><rect x="{left * WIDTH:.1f}" y="{top}" '
            f'width="{max(width - 0.4, 0.2):.1f}" height="{ROW - 1}" fill="hsl({hue},85%,70%)"/>'
            f'<text x="{left * WIDTH + 2:.1f}" y="{top + 11}">{text}</text></g>'
        )
    return "\n".join([*lines, "</svg>\n"])


def _boxes(
    node: Node, left: float, depth: int, total: int
) -> Iterator[tuple[str, float, float, int]]:
    for name, inner in sorted(node.inner.items()):
        share = inner.count / total
        if share >= SMALLEST:
            yield name, share, left, depth
            yield from _boxes(inner, left, depth + 1, total)
        left += share


async def _record(pid: int, seconds: float, raw: Path) -> None:
    command = [
        "uv", "tool", "run", "--quiet", "py-spy", "record", "--pid", str(pid), "--format", "raw",
        "--output", str(raw), "--rate", str(SAMPLES_PER_SECOND), "--duration", str(round(seconds)),
        "--threads", "--gil",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if await process.wait():
        raise SystemExit("py-spy could not look at the server; it needs root or ptrace_scope 0")


def _cpu_seconds(pid: int) -> dict[str, float]:
    """Return the seconds of processor time of each thread of a process."""
    return {
        task.name: int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


async def _profile(workload: Workload, pid: int, seconds: float, raw: Path) -> dict[str, float]:
    """Record; return microseconds of each thread's processor time a thing."""
    await measure(workload.call, CALLERS, 1.0)
    before, started = _cpu_seconds(pid), time.perf_counter()
    measured = await measure(workload.call, CALLERS, seconds / 2)
    things = measured.rate * (time.perf_counter() - started)
    costs = {
        thread: (after - before.get(thread, 0.0)) / things * 1e6
        for thread, after in _cpu_seconds(pid).items()
    }
    recording = asyncio.create_task(_record(pid, seconds, raw))
    while not recording.done():
        await measure(workload.call, CALLERS, 0.5)
    await recording
    return costs


async def _run(method: str, address: str, echo: str, pid: int, args: argparse.Namespace) -> None:
    async with (
        grpc.aio.insecure_channel(address, CHANNEL_OPTIONS) as channel,
        grpc.aio.insecure_channel(echo, CHANNEL_OPTIONS) as echo_channel,
    ):
        made = Workloads(
            Connection(channel), EchoClient(echo_channel), uuid.uuid4().hex[:8], CALLERS
        )
        prepare: Callable[..., object] = getattr(made, method)
        found = prepare(lambda *_: None) if method == "recall" else prepare()
        workload = await found  # type: ignore[misc]  # a coroutine, each of its own result
        workload = workload[0] if isinstance(workload, tuple) else workload
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            costs = await _profile(workload, pid, args.seconds, raw)
            samples = stacks(raw.read_text())
    total = sum(costs.values())
    print(f"\n{workload.name}: {total:.0f} us of processor a thing")
    for part, cost in sorted(divided(costs, samples).items(), key=lambda item: -item[1]):
        print(f"| {part} | {cost / total:.0%} | {cost:.0f} |")
    title = f"{workload.name}: who holds the interpreter's lock, {samples.total()} samples"
    (args.out / f"{workload.name}.svg").write_text(draw(title, samples))


def divided(costs: dict[str, float], samples: Counter[tuple[str, ...]]) -> dict[str, float]:
    """Divide each thread's cost among the parts of `PARTS` as its samples are."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for stack, count in samples.items():
        if (thread := re.match(r"thread \((\d+)\)", stack[0])) is not None:
            seen[thread[1]][part_of(stack)] += count
    found: dict[str, float] = defaultdict(float)
    for thread_id, cost in costs.items():
        parts = seen.get(thread_id, Counter({NO_PYTHON: 1}))
        for part, count in parts.items():
            found[part] += cost * count / parts.total()
    return found


def main() -> None:
    """Profile the methods named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of recording, each")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance")
    args = parser.parse_args()
    if unknown := set(args.methods) - set(METHODS):
        sys.exit(f"no such method: {', '.join(sorted(unknown))}")
    args.out.mkdir(parents=True, exist_ok=True)
    for method in args.methods or METHODS:
        settings = {"RECOLLECT_WORKER": str(method in WITH_WORKER)}
        with (
            tempfile.TemporaryDirectory() as folder,
            server_in(Path(folder), settings) as server,
            echo_server() as echo,
        ):
            uvloop.run(_run(method, server.address, echo.address, server.pid, args))


if __name__ == "__main__":
    main()
