"""Measure what metrics, traces or the audit log cost: processor time a call, with and without, and
how many calls there are a second.

Servers of all kinds run side by side and are loaded in turn, in short slices whose order changes,
so that what else the machine does falls on all alike. A second server without shows how far two of
a kind differ. Of the audit log it also measures what sealing an event takes.

    python scripts/option_cost.py metrics|audit [ROUNDS]
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc

from recollect_server.admin.sealing import BATCH, Sealing
from recollect_server.bench.connection import Connection, append_request, context_request
from recollect_server.memory.audit import Caller
from recollect_server.parts import utc_now
from recollect_server.scope import Scope
from recollect_server.stores.audit_key import AuditKey
from recollect_server.stores.sql.audit import SqlAuditLog
from recollect_server.stores.sql.audit_chains import SqlAuditChains
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.sqlite import SqliteDatabase

SLICE_CALLS = 800
CALLERS = 8
METRICS = ("--metrics-listen", "127.0.0.1:0")
KINDS = {
    "metrics": {
        "nothing": (),
        "nothing, too": (),
        "metrics": METRICS,
        "metrics and traces": (*METRICS, "--traces-endpoint", "http://127.0.0.1:1"),
    },
    "audit": {
        "nothing": ("--audit", "none"),
        "nothing, too": ("--audit", "none"),
        "audit": ("--audit", "reads,writes"),
    },
}
SEALED_EVENTS = 20 * BATCH


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
    """Print the ratios of processor time a call, and of calls a second, to the first server's."""
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
        lasted: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(rounds + 1):
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                before, began = processor_seconds(servers[kind][0]), time.perf_counter()
                await load(connections[kind], method, users)
                spent[kind].append((processor_seconds(servers[kind][0]) - before) / SLICE_CALLS)
                lasted[kind].append(time.perf_counter() - began)
        for kind in kinds[1:]:
            time_each, rate = (
                ratio(spent[kind], spent[kinds[0]]),
                ratio(lasted[kinds[0]], lasted[kind]),
            )
            print(
                f"{method}: {kind}: {time_each:.3f} of "
                f"{statistics.median(spent[kinds[0]][1:]) * 1e6:.0f} us a call, {rate:.3f} of "
                f"{SLICE_CALLS / statistics.median(lasted[kinds[0]][1:]):.0f} calls a second"
            )


def ratio(these: list[float], those: list[float]) -> float:
    """Return the median ratio of rounds; the first one warms up."""
    return statistics.median(a / b for a, b in zip(these[1:], those[1:], strict=True))


async def measure_sealing(folder: Path) -> None:
    """Print what sealing takes of a processor for each event, in full batches of one tenant."""
    path = folder / "sealed.db"
    migrate(path)
    database = SqliteDatabase(path, "FULL")
    events, scope = SqlAuditLog(database, utc_now), Scope("default", "ada")
    key = AuditKey.open(folder / "keys")
    sealing = Sealing(SqlAuditChains(database, utc_now), lambda: key, utc_now)
    caller = Caller("key", "recollect.v1.MemoryService/AppendMessages", "call")
    took = []
    for _ in range(5):
        for start in range(0, SEALED_EVENTS, BATCH):
            resources = (f"session_id=main message_id={start + n}" for n in range(BATCH))
            await asyncio.gather(*(events.record(scope, caller, r, "OK") for r in resources))
        before = time.process_time()
        await sealing.seal()
        took.append((time.process_time() - before) / SEALED_EVENTS)
    await database.close()
    print(f"sealing: {statistics.median(took) * 1e6:.1f} us of a processor an event")


def main() -> None:
    """Start the servers, measure, and end them."""
    subject = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    processes: list[subprocess.Popen[bytes]] = []
    servers = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for kind, flags in KINDS[subject].items():
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
            if subject == "audit":
                asyncio.run(measure_sealing(Path(folder)))
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)


if __name__ == "__main__":
    main()
