"""Sends inputs to a server as fast as it answers, and collects what is wrong with the answers."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from tests.fuzz.mutation import mutate
from tests.fuzz.requests import generate, request
from tests.fuzz.target import (
    CALL_SECONDS,
    METHODS,
    WAIT_SECONDS,
    Answer,
    Known,
    path_of,
    waits,
    wrong,
)
from tests.harness import children

from recollect_server.cli.allocator import RETURN_SECONDS

CHANNELS = 4
IN_FLIGHT = 64
MOST_RESPONSES = 50
"""Responses of a stream that are read before it is cancelled; of a Watch one."""

WINDOW_SECONDS = RETURN_SECONDS + 5
"""In each window a server gives free memory back at least once."""

MUTANTS = 40
"""Mutated requests made from each generated one."""

_REFUSED_EARLY = "Internal error from Core"
"""What gRPC's own client says when a stream was answered before it had all been sent."""

OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    # As Java reads them by default: what is larger is no answer there.
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 8 * 1024),
]

Input = tuple[MethodDescriptor, bytes]


@dataclass(slots=True)
class Fuzzer:
    """One run against a server.

    Attributes:
        codes: answers by method's name and code.
        violations: what was wrong, each with the shortest input that showed it.
    """

    address: str
    seed: int
    sent: int = 0
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: dict[tuple[str, str], bytes] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    _calls: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, inputs: int, each_round: Callable[[], Any] = lambda: None) -> None:
        """Send at least a number of inputs.

        Args:
            each_round: called and awaited after each round, in which every method had its turn.
        """
        channels = [grpc.aio.insecure_channel(self.address, OPTIONS) for _ in range(CHANNELS)]
        self._calls = [_calls(channel) for channel in channels]
        number = 0
        while self.sent < inputs:
            await self._round(Random(f"{self.seed}/{number}"), min(12, 4 + number))
            await each_round()
            number += 1
        for channel in channels:
            await channel.close()

    async def _round(self, random: Random, number: int) -> None:
        pools = self._generate(random, number)
        everything = [data for pool in pools.values() for data in pool]
        inputs: list[Input] = []
        for method, pool in zip(METHODS, pools.values(), strict=True):
            for data in pool:
                inputs.append((method, data))
                for _ in range(MUTANTS):
                    others = pool if random.random() < 0.9 else everything
                    inputs.append((method, mutate(random, data, others)))
        random.shuffle(inputs)
        waiting = iter(inputs)
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(self._send_all(waiting))

    def _generate(self, random: Random, number: int) -> dict[str, list[bytes]]:
        words = self.known.snapshot()
        return {
            path_of(method): generate(
                request(method.input_type, words), number, random.getrandbits(64)
            )
            for method in METHODS
        }

    async def _send_all(self, inputs: Any) -> None:
        for method, data in inputs:
            self.sent += 1
            calls = self._calls[self.sent % CHANNELS]
            answer = await send(calls[path_of(method)], method, data)
            self.judge(method, data, answer)

    def judge(self, method: MethodDescriptor, data: bytes, answer: Answer) -> None:
        """Count an answer, learn from a good one, note what is wrong with a bad one."""
        self.codes[method.name, answer.code.name] += 1
        if answer.code is grpc.StatusCode.OK:
            self.known.learn(method, answer)
        elif answer.details == _REFUSED_EARLY:
            pass
        elif what := wrong(method, answer):
            key = method.name, what
            if key not in self.violations or len(data) < len(self.violations[key]):
                self.violations[key] = data

    def report(self) -> str:
        """Return the violations, to be sent again from Python."""
        return "\n".join(
            f"{method}: {what}\n  {data[:2000]!r}"
            for (method, what), data in self.violations.items()
        )


def _calls(channel: grpc.aio.Channel) -> dict[str, Any]:
    kinds: dict[tuple[bool, bool], Callable[[str], Any]] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    return {
        path_of(method): kinds[method.client_streaming, method.server_streaming](path_of(method))
        for method in METHODS
    }


async def send(call: Any, method: MethodDescriptor, data: bytes) -> Answer:
    """Send a request's bytes, as a stream of client twice, and return the answer."""
    timeout = WAIT_SECONDS if waits(method) else CALL_SECONDS
    given: Any = _twice(data) if method.client_streaming else data
    running = call(given, timeout=timeout)
    try:
        if not method.server_streaming:
            return Answer(grpc.StatusCode.OK, messages=(await running,))
        most = 1 if method.name == "Watch" else MOST_RESPONSES
        return Answer(grpc.StatusCode.OK, messages=await _read(running, most))
    except grpc.aio.AioRpcError as error:
        if method.client_streaming and error.details() == _REFUSED_EARLY:
            return Answer(grpc.StatusCode.CANCELLED, error.details())
        trailing = dict(error.trailing_metadata() or ())
        return Answer(error.code(), error.details() or "", trailing)


async def _twice(data: bytes) -> AsyncIterator[bytes]:
    yield data
    yield data


async def _read(running: Any, most: int) -> tuple[bytes, ...]:
    found: list[bytes] = []
    async for response in running:
        found.append(response)
        if len(found) == most:
            running.cancel()
            break
    return tuple(found)


@dataclass(slots=True)
class Memory:
    """The memory that a server's processes keep.

    What a round needs for its largest requests comes and goes, and differs by 100 MiB from one
    moment to the next. What is kept is the least of a while in which free memory was given back.

    Attributes:
        samples: number of inputs by then, and the least MiB that were resident in that while.
    """

    pid: int
    samples: list[tuple[int, float]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    async def watch(self, sent: Callable[[], int]) -> None:
        """Take samples until cancelled."""
        while True:
            end = time.monotonic() + WINDOW_SECONDS
            least = resident_mib(self.pid)
            self.samples.append((sent(), least))
            while time.monotonic() < end:
                await asyncio.sleep(WINDOW_SECONDS / 200)
                least = min(least, resident_mib(self.pid))
                self.samples[-1] = sent(), least

    def growth(self) -> tuple[float, float]:
        """Return MiB, and MiB for 100,000 inputs, by which the second half of the run grew.

        By least squares: single samples jump with what is in use at the time.
        """
        half = self.samples[len(self.samples) // 2 :]
        slope = _slope(half)
        return slope * (half[-1][0] - half[0][0]), slope * 100_000


def _slope(samples: Sequence[tuple[int, float]]) -> float:
    middle_x = sum(x for x, _ in samples) / len(samples)
    middle_y = sum(y for _, y in samples) / len(samples)
    square = sum((x - middle_x) ** 2 for x, _ in samples)
    product = sum((x - middle_x) * (y - middle_y) for x, y in samples)
    return product / square if square else 0.0


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its children, but not that of Valkey."""
    total = 0
    for each in (pid, *children(pid)):
        status = Path(f"/proc/{each}/status").read_text()
        if "valkey" not in status.partition("\n")[0]:
            total += int(status.partition("VmRSS:")[2].split()[0])
    return total / 1024
