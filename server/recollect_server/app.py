"""The composition root: the one place that wires parts together."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import grpc
import structlog

from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.server import ServerFacts, StoreState
from recollect_server.cache.service import AnswerCache
from recollect_server.chat.job import Collaborators
from recollect_server.chat.ports import ChatModel
from recollect_server.chat.service import Chat
from recollect_server.config import Authentication, Durability, Settings
from recollect_server.errors import Unavailable
from recollect_server.memory.context import ContextBuilder
from recollect_server.memory.embedding import EmbeddingWorker
from recollect_server.memory.service import Memory
from recollect_server.models.anthropic import DEFAULT_MODEL, AnthropicModel
from recollect_server.models.minilm import MiniLmEmbedder
from recollect_server.models.offline import OfflineModel
from recollect_server.rpc.authentication import ApiKeyAuthenticator
from recollect_server.rpc.server import RpcServer, ServerOptions
from recollect_server.rpc.services.admin import AdminServicer
from recollect_server.rpc.services.cache import CacheServicer
from recollect_server.rpc.services.chat import ChatServicer
from recollect_server.rpc.services.memory import MemoryServicer
from recollect_server.stores.exact import ExactIndex
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.embedding_queue import SqlEmbeddingQueue
from recollect_server.stores.sql.facts import SqlFactStore
from recollect_server.stores.sql.indexing import SqlIndexSource
from recollect_server.stores.sql.keys import SqlApiKeyStore
from recollect_server.stores.sql.migrate import SchemaError, migrate
from recollect_server.stores.sql.sessions import SqlSessionStore
from recollect_server.stores.sql.sqlite import SqliteDatabase
from recollect_server.stores.sql.turns import SqlTurnStore
from recollect_server.stores.valkey.connect import Client, connect
from recollect_server.stores.valkey.embedded import EmbeddedStartError, EmbeddedValkey
from recollect_server.stores.valkey.exact_cache import ValkeyExactCache
from recollect_server.stores.valkey.window import ValkeyWindowCache

log = structlog.get_logger("recollect.app")

SYNCHRONOUS = {Durability.FULL: "FULL", Durability.RELAXED: "NORMAL"}

OFFLINE_NOTICE = (
    "No ANTHROPIC_API_KEY is set: chat is offline and answers by quoting what it recalls."
)


class StartError(Exception):
    """The server cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server that serves.

    Attributes:
        address: HOST:PORT or unix:PATH.
        notice: one sentence about the chat provider.
    """

    address: str
    notice: str


def utc_now() -> datetime:
    """Return the present as an aware UTC datetime."""
    return datetime.now(UTC)


async def serve(settings: Settings, on_ready: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        on_ready: called once the server reports SERVING.

    Raises:
        StartError: a part did not start.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        started = await _start(stack, settings)
        on_ready(started)
        await ended.wait()
        log.info("draining", grace_seconds=settings.grace_seconds)


async def _start(stack: AsyncExitStack, settings: Settings) -> Started:
    embedder, database, (state, cache) = await asyncio.gather(
        asyncio.to_thread(MiniLmEmbedder, threads=settings.embedding_threads),
        _open_database(stack, settings),
        _open_valkey(stack, settings),
    )
    stack.push_async_callback(embedder.close)
    work_added = asyncio.Event()
    source = SqlIndexSource(database, utc_now)
    facts = SqlFactStore(database, utc_now)
    memory = Memory(
        sessions=SqlSessionStore(database, utc_now),
        facts=facts,
        windows=ValkeyWindowCache(state),
        index=ExactIndex(source, embedder, budget=settings.index_bytes),
        source=source,
        max_message_bytes=settings.max_message_bytes,
        work_added=work_added,
        clock=utc_now,
    )
    contexts = ContextBuilder(memory)
    answers = AnswerCache(
        exact=ValkeyExactCache(cache, clock=utc_now),
        facts=facts,
        allow_global=settings.allow_global_cache,
        clock=utc_now,
    )
    model, notice = _open_chat_model(settings)
    stack.push_async_callback(model.close)
    chat = Chat(memory, Collaborators(contexts, answers, SqlTurnStore(database, utc_now), model))
    keys = ApiKeys(SqlApiKeyStore(database, utc_now), utc_now)
    server_facts = ServerFacts(
        version=version("recollect-server"),
        chat_provider=model.name,
        chat_model=model.default_model,
        chat_notice=notice,
        embedding_model=embedder.model,
        embedding_dimensions=embedder.dimensions,
        authentication=settings.auth is not Authentication.NONE,
        max_message_bytes=settings.max_message_bytes,
        max_request_bytes=settings.max_request_bytes,
        probe=_probe(database, state, cache),
    )
    worker = EmbeddingWorker(SqlEmbeddingQueue(database, utc_now), embedder, work_added)
    await stack.enter_async_context(_background(worker))
    server = _listen(
        settings,
        (
            MemoryServicer(memory, contexts),
            CacheServicer(answers, utc_now),
            ChatServicer(chat),
            AdminServicer(keys, server_facts),
        ),
        ApiKeyAuthenticator(keys) if settings.auth is Authentication.API_KEY else None,
    )
    await server.start()
    stack.push_async_callback(chat.drain, settings.grace_seconds)
    stack.push_async_callback(server.drain, settings.grace_seconds)
    address = _address(settings.listen, server.port)
    return Started(address, notice)


def _listen(
    settings: Settings,
    servicers: tuple[MemoryServicer, CacheServicer, ChatServicer, AdminServicer],
    authenticator: ApiKeyAuthenticator | None,
) -> RpcServer:
    credentials = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
        credentials = grpc.ssl_server_credentials([pair])
    try:
        return RpcServer(
            servicers,
            listen=settings.listen,
            options=ServerOptions(
                max_request_bytes=settings.max_request_bytes,
                max_connection_age=settings.max_connection_age,
                credentials=credentials,
            ),
            authenticator=authenticator,
        )
    except RuntimeError as error:
        raise StartError(
            f"cannot listen on {settings.listen}: another program may use it, "
            "see --listen for another address"
        ) from error


async def _open_database(stack: AsyncExitStack, settings: Settings) -> Database:
    try:
        await asyncio.to_thread(migrate, settings.sqlite_path)
    except (SchemaError, OSError) as error:
        raise StartError(str(error)) from error
    database = SqliteDatabase(settings.sqlite_path, SYNCHRONOUS[settings.durability])
    stack.push_async_callback(database.close)
    return database


async def _open_valkey(stack: AsyncExitStack, settings: Settings) -> tuple[Client, Client]:
    """Return the clients for state and for answers, of a server of our own if none is named."""
    state_url = settings.state_url.get_secret_value()
    cache_url = settings.cache_url.get_secret_value() or state_url
    if not state_url or not cache_url:
        embedded = EmbeddedValkey(settings.data_dir, max_memory=settings.valkey_bytes)
        try:
            await embedded.start()
        except (EmbeddedStartError, OSError) as error:
            raise StartError(str(error)) from error
        stack.push_async_callback(embedded.stop)
        state_url, cache_url = state_url or embedded.url, cache_url or embedded.url
    try:
        state = connect(state_url)
        cache = state if cache_url == state_url else connect(cache_url)
    except ValueError as error:
        raise StartError(str(error)) from error
    for client in {id(c): c for c in (state, cache)}.values():
        stack.push_async_callback(client.close)
    return state, cache


def _open_chat_model(settings: Settings) -> tuple[ChatModel, str]:
    key = settings.anthropic_key()
    if not key:
        return OfflineModel(), OFFLINE_NOTICE
    model = AnthropicModel(
        key,
        base_url=settings.anthropic_base_url or None,
        default_model=settings.chat_model or DEFAULT_MODEL,
    )
    return model, f"Chat by Anthropic, {model.default_model}."


def _probe(
    database: Database, state: Client, cache: Client
) -> Callable[[], Awaitable[tuple[StoreState, ...]]]:
    async def sql() -> bool:
        try:
            await database.read(lambda tx: tx.execute("SELECT 1"))
        except Unavailable:
            return False
        return True

    async def valkey(client: Client) -> bool:
        try:
            await client.ping()
        except Unavailable:
            return False
        return True

    async def probe() -> tuple[StoreState, ...]:
        answers = await asyncio.gather(sql(), valkey(state), valkey(cache))
        names = (("sql", "sqlite"), ("state", "valkey"), ("cache", "valkey"))
        found = (StoreState(n, k, up) for (n, k), up in zip(names, answers, strict=True))
        return (*found, StoreState("index", "exact", available=True))

    return probe


@asynccontextmanager
async def _background(worker: EmbeddingWorker) -> AsyncIterator[None]:
    """Run the worker meanwhile; a defect in it is logged, and it is started again."""

    async def supervise() -> None:
        while True:
            try:
                await worker.run()
            except Exception:
                log.exception("embedding worker failed")
                await asyncio.sleep(1.0)

    task = asyncio.create_task(supervise(), name="embedding-worker")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[ApiKeys]:
    """Give the API keys of a data directory, also while a server uses it."""
    async with AsyncExitStack() as stack:
        database = await _open_database(stack, settings)
        yield ApiKeys(SqlApiKeyStore(database, utc_now), utc_now)


def _address(listen: str, port: int) -> str:
    if listen.startswith("unix"):
        return listen
    return f"{listen.rpartition(':')[0]}:{port}"
