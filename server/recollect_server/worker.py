"""Wires a worker: what does a database's background work apart from any server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from grpc_health.v1 import health, health_pb2

from recollect_server.background import running, sealing_loop, worker_loops
from recollect_server.config import Settings
from recollect_server.memory.embedding import EmbeddingWorker
from recollect_server.metrics import Sources
from recollect_server.models.guarded import GuardedModel
from recollect_server.observability import open_telemetry, publish_metrics
from recollect_server.parts import (
    StartError,
    open_activity,
    open_chat_model,
    open_database,
    open_embedder,
    open_queue,
    utc_now,
)
from recollect_server.rpc.health import HealthEndpoint
from recollect_server.session_work import make_session_work
from recollect_server.stores.exact import ExactIndex
from recollect_server.stores.sql.indexing import SqlIndexSource
from recollect_server.stores.sql.jobs import SqlJobQueue
from recollect_server.vectors import open_feeder


async def open_worker(stack: AsyncExitStack, settings: Settings) -> None:
    """Open the database and begin its work, which ends with the stack.

    Raises:
        StartError: a part did not start.
    """
    telemetry = await open_telemetry(stack, settings)
    database = telemetry.watch_database(await open_database(stack, settings))
    embedder = await open_embedder(stack, settings, background=True)
    embedder = telemetry.watch_embedder(embedder, "stored")
    queue = await open_queue(database, embedder)
    model, _ = open_chat_model(stack, settings, telemetry.watch_model)
    source = SqlIndexSource(database, utc_now, embedder.model)
    index = ExactIndex(source, embedder, budget=settings.index_bytes)
    work = make_session_work(settings, database, model, index, source)
    work_added, activity = asyncio.Event(), open_activity(settings)
    embedding = EmbeddingWorker(queue, embedder, work_added, activity)
    loops = worker_loops(database, work, embedding, work_added, activity, telemetry)
    loops["feeding"] = open_feeder(stack, settings, database).run
    loops |= sealing_loop(database, settings)
    await stack.enter_async_context(running(loops))
    if settings.health_listen:
        await stack.enter_async_context(_healthy(settings.health_listen))
    sources = Sources(
        telemetry,
        database.writer,
        queue.backlog,
        SqlJobQueue(database, utc_now).depths,
        paused=model.paused if isinstance(model, GuardedModel) else None,
        index=index,
    )
    publish_metrics(stack, settings, sources)


@asynccontextmanager
async def _healthy(listen: str) -> AsyncIterator[None]:
    """Report SERVING meanwhile, to whoever asks at the address."""
    servicer = health.aio.HealthServicer()
    try:
        endpoint = HealthEndpoint(listen, servicer)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {listen}: another program may use it") from error
    await endpoint.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        yield
    finally:
        await endpoint.stop()
