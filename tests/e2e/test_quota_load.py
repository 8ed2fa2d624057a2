"""A tenant that floods a server does not slow another one, and what limits cost.

Both are ratios within one run, of slices of the two cases that take turns, so that what else the
machine does meets both. So does the flood's own work: in turns it goes to another server.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from tests.e2e.test_auth import key_of
from tests.e2e.test_quotas import limits_file
from tests.harness import RunningServer

from recollect import Recollect
from recollect.v1 import memory_pb2

FLOOD = Path(__file__).with_name("flood.py")
SLICES = 7
CALLS = 150
PAUSE = 0.005
CALLERS = 64
LIMIT = 5


class Flooding:
    """A tenant that calls as fast as it can, refused or not, while it is switched on."""

    def __init__(self, server: RunningServer, token: str) -> None:
        self._program = subprocess.Popen(
            [sys.executable, str(FLOOD), server.address, token, str(CALLERS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.seconds = 0.0

    def _switch(self) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write("\n")
        self._program.stdin.flush()
        self._program.stdout.readline()

    @contextmanager
    def on(self) -> Iterator[None]:
        began = time.monotonic()
        self._switch()
        yield
        self._switch()
        self.seconds += time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._program.returncode is None:
            self._program.kill()
            self._program.communicate()

    def end(self) -> tuple[int, int]:
        """Return how many calls were let in, and how many refused."""
        answer, _ = self._program.communicate(timeout=30)
        let_in, refused = map(int, answer.split())
        return let_in, refused


def _p99(client: Recollect) -> float:
    """Return the 99th percentile of the time of calls, in seconds."""
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        client.memory.get_session("s")
        times.append(time.perf_counter() - started)
        time.sleep(PAUSE)
    return statistics.quantiles(times, n=100)[98]


def test_one_tenants_flood_leaves_anothers_slowest_calls_within_twice_their_time(tmp_path):
    flags = limits_file(tmp_path, f'[tenants.wild]\ntenant_limits = "requests={LIMIT}/s"\n')
    pairs = []
    with ExitStack() as stack:
        server, another = (
            stack.enter_context(RunningServer("--auth", "api-key", *flags)) for _ in range(2)
        )
        here, elsewhere = (
            stack.enter_context(Flooding(s, key_of(s, "wild", "writer", "--tenant", "wild")))
            for s in (server, another)
        )
        calm = key_of(server, "calm", "writer", "--tenant", "calm")
        client = stack.enter_context(server.client("ada", api_key=calm))
        client.memory.create_session(session_id="s")
        for number in range(SLICES):
            slowest = {}
            for flood in (here, elsewhere) if number % 2 else (elsewhere, here):
                with flood.on():
                    slowest[flood] = _p99(client)
            pairs.append((slowest[here], slowest[elsewhere]))
        let_in, refused = here.end()
    # The slowest of some hundred calls are as slow as what else runs makes them, up to ten times on
    # a busy machine: three of four pairs must agree before the flood is to blame.
    least, times, _ = statistics.quantiles((a / b for a, b in pairs), n=4)
    print([f"{1000 * a:.0f}/{1000 * b:.0f}" for a, b in pairs])
    print(f"p99 with a flood: {times:.2f} times that without; {let_in} let in, {refused} refused")
    assert refused > 4 * let_in
    assert let_in <= LIMIT * (here.seconds + SLICES)
    assert least < 2


async def _processor_seconds(server: RunningServer, calls: int) -> float:
    """Return what a server's processor did for so many calls."""

    def spent() -> float:
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    request = memory_pb2.GetSessionRequest(user_id="ada", session_id="s").SerializeToString()
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/recollect.v1.MemoryService/GetSession")
        before = spent()
        for _ in range(calls // 10):
            codes = await asyncio.gather(*(call(request).code() for _ in range(10)))
            assert set(codes) == {grpc.StatusCode.NOT_FOUND}
        return spent() - before


async def test_limits_that_are_not_reached_cost_little(tmp_path):
    high = '"requests=100000/s,messages=100000/s"'
    flags = limits_file(tmp_path, f"tenant_limits = {high}\nuser_limits = {high}\n")
    with RunningServer() as without, RunningServer(*flags) as limited:
        ratios = []
        for _ in range(SLICES):
            base = await _processor_seconds(without, 1000)
            ratios.append(await _processor_seconds(limited, 1000) / base)
    times = statistics.median(ratios[1:])
    print(f"processor time a call with limits: {times:.3f} times that without")
    assert times < 1.5
