"""Opens everything that a server's settings name, and counts what is asked of it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from recollect_server.chat.ports import ChatModel
from recollect_server.config import Settings
from recollect_server.memory.ports import Embedder
from recollect_server.observability import open_telemetry
from recollect_server.parts import (
    connect_valkey,
    open_chat_model,
    open_database,
    open_embedder,
    open_queue,
    open_valkey,
)
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.embedding_queue import SqlEmbeddingQueue
from recollect_server.stores.valkey.connect import Client
from recollect_server.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Opened:
    """What the settings name, opened and counted.

    Attributes:
        embedder: of questions.
        urgent: the same one, counted as an embedder of what is stored.
        state: Valkey for windows, at `state_url`.
        cache: Valkey for answers.
        lookups: the same, given up soon.
        notice: one sentence about the chat provider.
    """

    telemetry: Telemetry
    database: Database
    embedder: Embedder
    urgent: Embedder
    queue: SqlEmbeddingQueue
    state_url: str
    state: Client
    cache: Client
    lookups: Client
    model: ChatModel
    notice: str


async def open_all(stack: AsyncExitStack, settings: Settings) -> Opened:
    """Open what the settings name.

    Raises:
        StartError: a part did not start.
    """
    telemetry = await open_telemetry(stack, settings)
    embedder, database, (state_url, cache_url) = await asyncio.gather(
        open_embedder(stack, settings),
        open_database(stack, settings),
        open_valkey(stack, settings),
    )
    database = telemetry.watch_database(database)
    queue = await open_queue(database, embedder)
    state = connect_valkey(stack, state_url)
    # Lookups have a connection of their own: they are given up soon, and wait behind no writes.
    cache = connect_valkey(stack, cache_url)
    lookups = connect_valkey(stack, cache_url, settings.cache_timeout)
    model, notice = open_chat_model(stack, settings, telemetry.watch_model)
    return Opened(
        telemetry=telemetry,
        database=database,
        embedder=telemetry.watch_embedder(embedder, "query"),
        urgent=telemetry.watch_embedder(embedder, "stored"),
        queue=queue,
        state_url=state_url,
        state=telemetry.watch_client(state, "state"),
        cache=telemetry.watch_client(cache, "cache"),
        lookups=telemetry.watch_client(lookups, "cache"),
        model=model,
        notice=notice,
    )
