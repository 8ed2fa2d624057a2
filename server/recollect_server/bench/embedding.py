"""What embedding costs: a question, a backlog, and the calls that are made while one is drained.

Each figure is a ratio of two things measured in turns, so that a busy machine slows both.
"""

import asyncio
import itertools
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import grpc

from recollect.v1 import admin_pb2, memory_pb2
from recollect_server.bench.connection import (
    CHANNEL_OPTIONS,
    Connection,
    LoadError,
    append_request,
)
from recollect_server.bench.embedded import Child, data_dir, server_in
from recollect_server.bench.texts import Texts
from recollect_server.models.minilm import Encoder, MiniLmEmbedder

QUESTIONS = 300
BACKLOG_USERS = 8
CALL_TEXTS = 50
KNOWN_TURNS = 200
SESSION = "main"
POLL_SECONDS = 0.1

LOADS = {"light": (2, 0.05), "heavy": (8, 0.0)}
"""Callers, and the seconds that each waits between its calls."""

METHODS = ("AppendMessages", "Recall")


@dataclass
class EmbeddingRun:
    """Measurements.

    Attributes:
        question_ms: medians of a question, by the embedder and by onnxruntime alone.
        drained_per_s: texts of a backlog embedded and stored a second by a server.
        batch_per_s: the same texts by the embedder alone, in one call.
        calls_ms: durations of calls by (load, method): while a backlog is drained, and by a
            server that embeds nothing of what it stores.
        waiting: texts that waited at the end of each slice of `calls_ms`.
    """

    question_ms: tuple[float, float] = (0.0, 0.0)
    drained_per_s: float = 0.0
    batch_per_s: float = 0.0
    calls_ms: dict[tuple[str, str], tuple[list[float], list[float]]] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)


def results(run: EmbeddingRun) -> dict[str, object]:
    """Return the figures for a JSON file."""
    ours, alone = run.question_ms
    figures: dict[str, object] = {
        "question": {"embedder_ms": ours, "onnxruntime_ms": alone, "ratio": ours / alone},
        "backlog": {
            "drained_per_s": run.drained_per_s,
            "embedder_per_s": run.batch_per_s,
            "ratio": run.drained_per_s / run.batch_per_s,
        },
    }
    for (load, method), (meanwhile, calm) in run.calls_ms.items():
        figures[f"{method}, {load} load"] = {
            "p50_ms_meanwhile": median(meanwhile),
            "p50_ms_otherwise": median(calm),
            "ratio": median(meanwhile) / median(calm),
            "calls": [len(meanwhile), len(calm)],
        }
    return figures


async def run(
    folder: Path,
    *,
    backlog: int,
    seconds: float,
    rounds: int,
    progress: Callable[[str, int, int], None],
) -> EmbeddingRun:
    """Measure servers of our own in a folder.

    Args:
        backlog: texts that wait when a measurement begins.
        seconds: of each slice of calls.
        rounds: slices of each kind.

    Raises:
        LoadError: nothing was left to drain while calls were measured.
    """
    done = EmbeddingRun()
    texts = Texts(5)
    done.question_ms = await _questions(texts)
    with server_in(folder / "working") as server:
        async with _connected(server) as connection:
            await _drain(connection, texts, backlog, done, progress)
            await _know(connection, texts)
    shutil.copytree(data_dir(folder / "working"), data_dir(folder / "plain"))
    with ExitStack() as stack:
        working = stack.enter_context(server_in(folder / "working"))
        plain = stack.enter_context(server_in(folder / "plain", {"RECOLLECT_WORKER": "false"}))
        await _calls(working, plain, texts, backlog, done, seconds, rounds, progress)
    return done


async def _questions(texts: Texts) -> tuple[float, float]:
    embedder, encoder = MiniLmEmbedder(), Encoder.bundled()
    ours: list[float] = []
    alone: list[float] = []
    for number in range(QUESTIONS):
        question = f"{texts.question()} {number}"
        tokens = encoder.tokenise([question])
        for mine in (number % 2 == 0, number % 2 == 1):
            began = time.perf_counter()
            if mine:
                await embedder.embed([question])
            else:
                encoder.vectors(tokens)
            (ours if mine else alone).append(1000 * (time.perf_counter() - began))
    await embedder.close()
    return median(ours), median(alone)


async def _embedder_rate(texts: Sequence[str]) -> float:
    embedder = MiniLmEmbedder(cached_texts=0, background=True)
    await embedder.embed(["warm up"])
    began = time.perf_counter()
    await embedder.embed(texts)
    rate = len(texts) / (time.perf_counter() - began)
    await embedder.close()
    return rate


async def _drain(
    connection: Connection,
    texts: Texts,
    backlog: int,
    done: EmbeddingRun,
    progress: Callable[[str, int, int], None],
) -> None:
    """Measure a backlog's drain between two runs of the embedder alone."""
    written = [texts.message() for _ in range(backlog)]
    before = await _embedder_rate(written)
    await _fill(connection, "backlog", written)
    first, began = await _waiting(connection), time.perf_counter()
    left = first
    while left:
        await asyncio.sleep(POLL_SECONDS)
        left = await _waiting(connection)
        progress("draining", first - left, first)
    done.drained_per_s = first / (time.perf_counter() - began)
    after = await _embedder_rate(written)
    done.batch_per_s = (before + after) / 2


async def _fill(connection: Connection, name: str, written: Sequence[str]) -> None:
    """Append texts of several users as quickly as the server takes them."""
    users = [f"bench-{name}-{number}" for number in range(BACKLOG_USERS)]
    await asyncio.gather(*(connection.create_session(user, SESSION) for user in users))
    parts = [written[start : start + CALL_TEXTS] for start in range(0, len(written), CALL_TEXTS)]
    await asyncio.gather(
        *(
            connection.append(user, SESSION, part)
            for user, part in zip(itertools.cycle(users), parts, strict=False)
        )
    )


async def _waiting(connection: Connection) -> int:
    info = await connection.admin.GetServerInfo(
        admin_pb2.GetServerInfoRequest(), **connection.options
    )
    waiting: int = info.embedding_backlog.waiting
    return waiting


async def _know(connection: Connection, texts: Texts) -> None:
    """Give each caller a user with turns that are embedded."""
    for number in range(max(callers for callers, _ in LOADS.values())):
        user = f"bench-caller-{number}"
        await connection.create_session(user, SESSION)
        known = [texts.message() for _ in range(KNOWN_TURNS)]
        revision = await connection.append(user, SESSION, known)
        await connection.wait_indexed(user, revision)


async def _calls(
    working: Child,
    plain: Child,
    texts: Texts,
    backlog: int,
    done: EmbeddingRun,
    seconds: float,
    rounds: int,
    progress: Callable[[str, int, int], None],
) -> None:
    """Measure calls in turns: at the server that drains, and with it frozen at the other one."""
    done.calls_ms = {(load, method): ([], []) for load in LOADS for method in METHODS}
    async with _connected(working) as busy, _connected(plain) as calm:
        for number in range(rounds):
            for load in LOADS:
                written = [texts.message() for _ in range(backlog)]
                await _fill(busy, f"{load}-{number}", written)
                await _slice(busy, load, 0, texts, done, seconds)
                done.waiting.append(await _waiting(busy))
                if not done.waiting[-1]:
                    raise LoadError("the backlog was drained before the calls were measured")
                os.kill(working.pid, signal.SIGSTOP)
                try:
                    await _slice(calm, load, 1, texts, done, seconds)
                finally:
                    os.kill(working.pid, signal.SIGCONT)
                progress("calls", number + 1, rounds)


async def _slice(
    connection: Connection,
    load: str,
    side: int,
    texts: Texts,
    done: EmbeddingRun,
    seconds: float,
) -> None:
    callers, pause = LOADS[load]
    ends = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        user = f"bench-caller-{number}"
        while time.perf_counter() < ends:
            message = append_request(user, SESSION, [texts.message()])
            question = memory_pb2.RecallRequest(user_id=user, query=texts.question(), top_k=10)
            for method, request in zip(METHODS, (message, question), strict=True):
                began = time.perf_counter()
                await getattr(connection.memory, method)(request, **connection.options)
                taken = 1000 * (time.perf_counter() - began)
                done.calls_ms[load, method][side].append(taken)
                await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))


@asynccontextmanager
async def _connected(server: Child) -> AsyncIterator[Connection]:
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        yield Connection(channel)
