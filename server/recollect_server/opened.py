"""Opens everything that a server's settings name, and counts what is asked of it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from recollect_server.chat.ports import ChatModel
from recollect_server.config import Settings
from recollect_server.memory.ports import Embedder
from recollect_server.observability import open_telemetry
from recollect_server.parts import (
    StartError,
    open_chat_model,
    open_database,
    open_embedder,
    open_queue,
    open_valkey,
)
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.embedding_queue import SqlEmbeddingQueue
from recollect_server.stores.valkey.connect import Client, connect
from recollect_server.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Opened:
    """What the settings name, opened and counted.

    Attributes:
        embedder: of questions.
        urgent: the same one, counted as an embedder of what is stored.
        state: Valkey for windows, at `state_url`.
        cache: Valkey for answers.
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
    state, cache = _connect(stack, state_url, cache_url)
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
        model=model,
        notice=notice,
    )


def _connect(stack: AsyncExitStack, state_url: str, cache_url: str) -> tuple[Client, Client]:
    try:
        state = connect(state_url)
        # Answers have connections of their own even on the same server: theirs are given up soon.
        cache = connect(cache_url)
    except ValueError as error:
        raise StartError(str(error)) from error
    for client in (state, cache):
        stack.push_async_callback(client.close)
    return state, cache
