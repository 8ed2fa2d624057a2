"""Memory servers side by side: `python -m bench.peers`, or `make peers`.

Every server does the same work, in slices that take turns; who is not measured is stopped, so that
each has the machine for itself. Models' APIs are a mock, embeddings one MiniLM for all.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import uvloop
from bench.peers.agent_memory_server import agent_memory_server
from bench.peers.environments import NotHereError
from bench.peers.mem0 import mem0
from bench.peers.processes import awake, cpu_seconds, family, running
from bench.peers.recollect import recollect
from bench.peers.work import OPERATIONS, Peer, Seen, call_of, timed
from tests.mocks.llm import MockLlm

from recollect_server.bench.texts import Texts

WARM_SECONDS = 0.5
SETTLE_SECONDS = 60
IDLE = 0.1
"""Seconds of processor time in a second, up to which a peer counts as idle."""

ANSWER = [{"match": {}, "response": {"content": '{"topics": [], "entities": [], "memories": []}'}}]
Results = dict[str, dict[str, Seen]]


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def opened(
    name: str, folder: Path, embeddings: int, llm: str, callers: int
) -> AsyncIterator[Peer]:
    """Start a peer by its name, in a folder of its own."""
    os.mkdir(folder)
    starts: dict[str, Callable[[], AbstractAsyncContextManager[Peer]]] = {
        "recollect": lambda: recollect(folder),
        "agent-memory-server": lambda: agent_memory_server(
            folder,
            ports=(free_port(), free_port()),
            embeddings=embeddings,
            llm=llm,
            callers=callers,
        ),
        "mem0": lambda: mem0(
            folder, port=free_port(), embeddings=embeddings, llm=llm, callers=callers
        ),
    }
    async with starts[name]() as peer:
        yield peer


async def run(names: list[str], callers: int, rounds: int, seconds: float) -> Results:
    """Start and prepare the peers one after the other, then measure them in turns."""
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as made, ExitStack() as stack:
        folder = Path(made)
        llm = stack.enter_context(MockLlm(folder, ANSWER))
        embeddings = free_port()
        serve = [sys.executable, "-m", "bench.peers.embeddings", str(embeddings)]
        stack.enter_context(running(serve, folder / "embeddings.log"))
        async with AsyncExitStack() as peers:
            started: list[Peer] = []
            for name in names:
                place = folder / name
                try:
                    peer = await peers.enter_async_context(
                        opened(name, place, embeddings, llm.url, callers)
                    )
                except NotHereError as error:
                    print(f"left out: {error}", file=sys.stderr)
                    continue
                peers.callback(_resume, peer)
                await peer.prepare(callers, Texts(1))
                started.append(peer)
                results[peer.name] = {operation: Seen() for operation in OPERATIONS}
                for pid in peer.pids:
                    for one in family(pid):
                        os.kill(one, signal.SIGSTOP)
            for operation in OPERATIONS:
                for peer in started:
                    await _settle(peer)
                for number in range(rounds + 1):
                    for peer in started:
                        await _slice(peer, operation, callers, seconds, number, results)
    return results


async def _settle(peer: Peer) -> None:
    """Let a peer finish what it does behind, so that no operation pays for another."""
    with awake(peer.pids):
        before = cpu_seconds(peer.pids)
        for _ in range(SETTLE_SECONDS):
            await asyncio.sleep(1)
            now = cpu_seconds(peer.pids)
            if now - before < IDLE:
                return
            before = now
        print(f"{peer.name} is still busy after {SETTLE_SECONDS} s", file=sys.stderr)


async def _slice(
    peer: Peer, operation: str, callers: int, seconds: float, number: int, results: Results
) -> None:
    call = call_of(peer, operation, Texts(number))
    with awake(peer.pids):
        if number == 0:
            await timed(call, callers, min(WARM_SECONDS, seconds))
            return
        before = cpu_seconds(peer.pids)
        times, took = await timed(call, callers, seconds)
        seen = results[peer.name][operation]
        seen.add(times, took)
        seen.cpu.append((cpu_seconds(peer.pids) - before) / len(times) * 1000)


def _resume(peer: Peer) -> None:
    for pid in peer.pids:
        for one in family(pid):
            os.kill(one, signal.SIGCONT)


def table(results: Results) -> str:
    """Return a table in Markdown: every figure of each, and the first's as a multiple."""
    first, *others = results
    lines = [
        "| | | a second | p50 ms | p95 ms | CPU ms | rate, ours / its | p50, its / ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for operation in OPERATIONS:
        base = results[first][operation].middle()
        for name in (first, *others):
            rate, p50, p95, cpu = results[name][operation].middle()
            ratios = f"{base[0] / rate:.1f} | {p50 / base[1]:.1f}" if name != first else "|"
            figures = f"{rate:,.0f} | {p50:.1f} | {p95:.1f} | {cpu:.2f}"
            lines.append(f"| {operation} | {name} | {figures} | {ratios} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default="agent-memory-server,mem0")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = ["recollect", *filter(None, args.peers.split(","))]
    results = uvloop.run(run(names, args.callers, args.rounds, args.seconds))
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{args.callers} callers, {os.cpu_count()} cores, {platform.platform()}, load {load}\n")
    print(table(results))
    if args.json:
        plain = {
            name: {o: dict(zip(FIGURES, seen.middle(), strict=True)) for o, seen in found.items()}
            for name, found in results.items()
        }
        args.json.write_text(json.dumps(plain, indent=2))


FIGURES = ("rate", "p50_ms", "p95_ms", "cpu_ms")

if __name__ == "__main__":
    main()
