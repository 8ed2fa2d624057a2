"""What a process counts about its calls and about what they depend on.

A dependency is watched by standing in its place: each `watch_…` takes an implementation of a port
and returns another that counts, and traces where a tracer is given. So the domain and the adapters
know nothing of it, and a process that publishes neither metrics nor traces has none of it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from recollect_server.chat.model import Completion, ModelEvent
from recollect_server.chat.ports import ChatModel
from recollect_server.errors import RecollectError, ResourceExhausted, Unavailable
from recollect_server.memory.due import JobKind
from recollect_server.memory.jobs import Handler, Job
from recollect_server.memory.ports import Embedder
from recollect_server.memory.prompt import Prompt
from recollect_server.rpc.counting import CallCounts, CallTracer
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Database, Row, Transaction, WriterState
from recollect_server.stores.valkey.connect import Client, Refused, Script
from recollect_server.timing import Timer, Timings, Tracer

T = TypeVar("T")

MOST_MODELS = 32
"""Models with counts of their own; a caller may name any that its provider has."""

OTHER_MODELS = "other"


def outcome_of(error: BaseException | None) -> str:
    """Name how work ended: `ok`, `refused`, `exhausted`, `unavailable`, `cancelled` or `error`."""
    if error is None:
        return "ok"
    if isinstance(error, Unavailable) and not isinstance(error, Refused):
        return "unavailable"
    if isinstance(error, ResourceExhausted):
        return "exhausted"
    if isinstance(error, RecollectError):
        return "refused"
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    return "error"


class ProcessTracer(Tracer, CallTracer, Protocol):
    """Begins the spans of a process."""

    def root(self, name: str) -> "Root":
        """Return a context that is a trace of its own."""


class Root(Protocol):
    """A trace while it lasts."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: Any) -> None: ...


class Telemetry:
    """What a process counts.

    Args:
        active: whether anybody asks; otherwise `watch_…` return what they are given.
        tracer: begins spans, None for no traces.

    Attributes:
        calls: by method and code; a stream lasts as long as it is open.
        open_streams: by method.
        sql: by operation.
        sql_waits: seconds until a read had a connection.
        valkey: by what the server is used for.
        embedding: by what is embedded: `query` or `stored`.
        embedded_texts: by the same.
        model: calls by provider.
        model_first: seconds until a model's first event, by provider.
        model_tokens: by provider, model and kind of token.
        model_cost: US dollars by provider and model.
        jobs: by kind.
    """

    def __init__(self, *, active: bool, tracer: ProcessTracer | None = None) -> None:
        self.active = active
        self.tracer = tracer
        self.calls = Timings("method", "code")
        self.open_streams: Counter[str] = Counter()
        self.sql = Timings("operation", outcome=outcome_of, span="sql", tracer=tracer)
        self.sql_waits = Timings()
        self.valkey = Timings("server", outcome=outcome_of, span="valkey", tracer=tracer)
        self.embedding = Timings("purpose", outcome=outcome_of, span="embedding", tracer=tracer)
        self.embedded_texts: Counter[str] = Counter()
        self.model = Timings("provider", outcome=outcome_of, span="model", tracer=tracer)
        self.model_first = Timings("provider")
        self.model_tokens: Counter[tuple[str, str, str]] = Counter()
        self.model_cost: dict[tuple[str, str], float] = {}
        self.jobs = Timings("kind", outcome=outcome_of)

    @property
    def call_counts(self) -> CallCounts | None:
        """Where calls are counted, None if nobody asks."""
        return CallCounts(self.calls, self.open_streams, self.tracer) if self.active else None

    def watch_database(self, database: Database) -> Database:
        """Count what is asked of a database."""
        if not self.active:
            return database
        return _WatchedDatabase(database, self)

    def watch_client(self, client: Client, server: str) -> Client:
        """Count what is asked of Valkey."""
        if not self.active:
            return client
        return _WatchedClient(client, self.valkey.timer(server))

    def watch_embedder(self, embedder: Embedder, purpose: str) -> Embedder:
        """Count what is embedded."""
        if not self.active:
            return embedder
        return _WatchedEmbedder(embedder, self, purpose)

    def watch_model(self, model: ChatModel) -> ChatModel:
        """Count the calls of a provider, before any retry by another one."""
        if not self.active:
            return model
        return _WatchedModel(model, self)

    def watch_handlers(self, handlers: Mapping[JobKind, Handler]) -> dict[JobKind, Handler]:
        """Count the runs of jobs."""
        if not self.active:
            return dict(handlers)
        return {kind: self._watched(kind, handler) for kind, handler in handlers.items()}

    def _watched(self, kind: JobKind, handler: Handler) -> Handler:
        async def run(job: Job) -> None:
            with self.jobs.time(str(kind)):
                if self.tracer is None:
                    await handler(job)
                    return
                with self.tracer.root(f"job {kind}"):
                    await handler(job)

        return run

    def count_completion(self, provider: str, completion: Completion, cost_usd: float) -> None:
        """Count the tokens of a model's answer and what it cost."""
        model = completion.model
        if (provider, model) not in self.model_cost and len(self.model_cost) >= MOST_MODELS:
            model = OTHER_MODELS
        at = provider, model
        self.model_cost[at] = self.model_cost.get(at, 0.0) + cost_usd
        usage = completion.usage
        for kind in ("input", "output", "cache_read", "cache_write"):
            self.model_tokens[(*at, kind)] += getattr(usage, f"{kind}_tokens")


class _WatchedDatabase:
    """`Database` that counts."""

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._write = telemetry.sql.timer("write")
        self._read = telemetry.sql.timer("read")
        self._read_rows = telemetry.sql.timer("read_rows")
        self._waits = telemetry.sql_waits.of((), None)

    @property
    def writer(self) -> WriterState:
        return self._database.writer

    def write(
        self, work: Callable[[Transaction], T], scope: Scope | None = None
    ) -> Coroutine[Any, Any, T]:
        return self._write(self._database.write(work, scope))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        asked = time.perf_counter()
        begun = asked

        def noting_when(tx: Transaction) -> T:
            nonlocal begun
            begun = time.perf_counter()
            return work(tx)

        result = await self._read(self._database.read(noting_when))
        self._waits.observe(begun - asked)
        return result

    def read_rows(self, sql: str, params: Mapping[str, Any]) -> Coroutine[Any, Any, list[Row]]:
        return self._read_rows(self._database.read_rows(sql, params))

    async def compact(self, tables: Sequence[str]) -> None:
        await self._database.compact(tables)

    async def close(self) -> None:
        await self._database.close()


class _WatchedClient:
    """`Client` that counts."""

    def __init__(self, client: Client, timer: Timer) -> None:
        self._client = client
        self._timer = timer

    def get(self, key: str) -> Coroutine[Any, Any, bytes | None]:
        return self._timer(self._client.get(key))

    def set(
        self, key: str, value: bytes, *, px: int | None = None, nx: bool = False
    ) -> Coroutine[Any, Any, bool]:
        return self._timer(self._client.set(key, value, px=px, nx=nx))

    def delete(self, *keys: str) -> Coroutine[Any, Any, int]:
        return self._timer(self._client.delete(*keys))

    def run(
        self, script: Script, keys: Sequence[str], args: Sequence[bytes | int]
    ) -> Coroutine[Any, Any, Any]:
        return self._timer(self._client.run(script, keys, args))

    def command(self, key: str | None, *words: str | bytes | int) -> Coroutine[Any, Any, Any]:
        return self._timer(self._client.command(key, *words))

    def scan(self, pattern: str) -> AsyncGenerator[list[str]]:
        return self._client.scan(pattern)

    def ping(self) -> Coroutine[Any, Any, None]:
        return self._timer(self._client.ping())

    def place(self, key: str | None) -> str:
        return self._client.place(key)

    @property
    def clustered(self) -> bool:
        return self._client.clustered

    async def close(self) -> None:
        await self._client.close()


class _WatchedEmbedder:
    """`Embedder` that counts."""

    def __init__(self, embedder: Embedder, telemetry: Telemetry, purpose: str) -> None:
        self._embedder = embedder
        self._timer = telemetry.embedding.timer(purpose)
        self._texts = telemetry.embedded_texts
        self._purpose = purpose

    @property
    def model(self) -> str:
        return self._embedder.model

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    def embed(self, texts: Sequence[str]) -> Coroutine[Any, Any, NDArray[np.float32]]:
        self._texts[self._purpose] += len(texts)
        return self._timer(self._embedder.embed(texts))

    def expect(self, text: str) -> None:
        self._embedder.expect(text)


class _WatchedModel:
    """`ChatModel` that counts."""

    def __init__(self, model: ChatModel, telemetry: Telemetry) -> None:
        self.name = model.name
        self.default_model = model.default_model
        self._model = model
        self._telemetry = telemetry

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        labels = (self.name,)
        timings = self._telemetry.model
        started = time.perf_counter()
        span = timings.begin(labels)
        begun = completed = False
        failure: BaseException | None = None
        try:
            async with aclosing(self._model.stream(prompt)) as events:
                async for event in events:
                    if not begun:
                        begun = True
                        first = time.perf_counter() - started
                        trace_id = "" if span is None else span.trace_id
                        self._telemetry.model_first.add(first, self.name, trace_id=trace_id)
                    if isinstance(event, Completion):
                        completed = True
                        cost = self._model.cost_usd(event)
                        self._telemetry.count_completion(self.name, event, cost)
                    yield event
        except BaseException as error:
            failure = error
            raise
        finally:
            # Whoever has the completion may leave without asking for more.
            timings.end(started, labels, span, None if completed else failure)

    def cost_usd(self, completion: Completion) -> float:
        return self._model.cost_usd(completion)

    async def close(self) -> None:
        await self._model.close()
