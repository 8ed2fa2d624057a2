"""Measure what metrics and traces cost: the server's processor time a call, with and without.

Servers of all kinds run side by side and are loaded in turn, in short slices whose order changes,
so that what else the machine does falls on all alike. A second server that counts nothing shows
how far two of a kind differ.

    python scripts/metrics_cost.py [ROUNDS]
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc

from recollect_server.bench.connection import Connection, append_request, context_request

SLICE_CALLS = 800
CALLERS = 8
KINDS = {
    "nothing": (),
    "nothing, too": (),
    "metrics": ("--metrics-listen", "127.0.0.1:0"),
    "metrics and traces": (
        *("--metrics-listen", "127.0.0.1:0", "--traces-endpoint", "http://127.0.0.1:1"),
    ),
}


def processor_seconds(pid: int) -> float:
    """Return what a process has used, all its threads together."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def load(connection: Connection, method: str, users: list[str]) -> None:
    """Make the calls of a slice."""

    async def caller(user: str) -> None:
        for _ in range(SLICE_CALLS // CALLERS):
            if method == "GetContext":
                request = context_request(user, "main")
                await connection.memory.GetContext(request, **connection.options)
            else:
                written = append_request(user, "main", ["A short message."])
                await connection.memory.AppendMessages(written, **connection.options)

    await asyncio.gather(*map(caller, users))


async def measure(servers: dict[str, tuple[int, str]], rounds: int) -> None:
    """Print the ratios of processor time a call to that of the server that counts nothing."""
    users = [f"user-{n}" for n in range(CALLERS)]
    connections = {}
    for kind, (_, address) in servers.items():
        connections[kind] = Connection(grpc.aio.insecure_channel(address))
        for user in users:
            await connections[kind].create_session(user, "main")
            await connections[kind].append(user, "main", ["Hello."] * 20)
    kinds = list(servers)
    for method in ("GetContext", "AppendMessages"):
        spent: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(rounds + 1):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                before = processor_seconds(servers[kind][0])
                await load(connections[kind], method, users)
                spent[kind].append((processor_seconds(servers[kind][0]) - before) / SLICE_CALLS)
        plain = spent["nothing"][1:]
        for kind in kinds[1:]:
            ratios = [a / b for a, b in zip(spent[kind][1:], plain, strict=True)]
            print(
                f"{method}: {kind}: {statistics.median(ratios):.3f} of "
                f"{statistics.median(plain) * 1e6:.0f} us a call"
            )


def main() -> None:
    """Start the servers, measure, and end them."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    processes: list[subprocess.Popen[bytes]] = []
    servers = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for kind, flags in KINDS.items():
                ready = Path(folder, f"ready-{len(processes)}")
                data = Path(folder, f"data-{len(processes)}")
                command = [sys.executable, "-m", "recollect_server", "serve", *flags]
                command += ["--listen", "127.0.0.1:0", "--data-dir", str(data), "--no-worker"]
                command += ["--ready-file", str(ready)]
                processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
                while not ready.exists():
                    if processes[-1].poll() is not None:
                        sys.exit(f"the server did not start: {kind}")
                servers[kind] = processes[-1].pid, ready.read_text()
            asyncio.run(measure(servers, rounds))
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)


if __name__ == "__main__":
    main()
