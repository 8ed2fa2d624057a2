"""The composition root: the one place that wires parts together."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import structlog
from grpc_health.v1 import health, health_pb2

from recollect_server.activity import Activity
from recollect_server.admin.erasing import Erasing
from recollect_server.admin.erasure import UserData, UserMemory
from recollect_server.admin.gate import Gate
from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.portability import Exporting, Importing
from recollect_server.admin.quotas import Quotas
from recollect_server.admin.server import ServerFacts, StoreState
from recollect_server.answers import open_answers
from recollect_server.background import (
    Loops,
    forgetting_loop,
    running,
    sealing_loop,
    worker_loops,
)
from recollect_server.chat.following import Following
from recollect_server.chat.keeper import Keeper
from recollect_server.chat.service import Chat
from recollect_server.chat.work import Collaborators
from recollect_server.config import Settings
from recollect_server.errors import Unavailable
from recollect_server.ids import uuid7
from recollect_server.memory.audit import AuditLog
from recollect_server.memory.context import ContextBuilder
from recollect_server.memory.extraction import Extraction
from recollect_server.memory.reconciliation import Reconciler
from recollect_server.memory.service import Memory
from recollect_server.memory.sessions import Sessions
from recollect_server.memory.summaries import Compactor
from recollect_server.memory.watch import Watch
from recollect_server.memory.windows import Windows
from recollect_server.metrics import Sources
from recollect_server.models.guarded import GuardedModel
from recollect_server.observability import open_telemetry, publish_metrics
from recollect_server.parts import (
    StartError,
    chat_defaults,
    due_policy,
    extractor_of,
    judge_of,
    open_chat_model,
    open_database,
    open_embedder,
    open_limits,
    open_queue,
    open_quotas,
    open_valkey,
    summarizer_of,
    utc_now,
)
from recollect_server.rpc.auditing import Audited, audited
from recollect_server.rpc.authentication import Authenticator
from recollect_server.rpc.health import HealthEndpoint
from recollect_server.rpc.server import RpcServer, ServerOptions
from recollect_server.rpc.services.admin import AdminServicer
from recollect_server.rpc.services.cache import CacheServicer
from recollect_server.rpc.services.chat import ChatServicer
from recollect_server.rpc.services.memory import MemoryServicer
from recollect_server.security import open_authenticator, open_credentials
from recollect_server.stores.exact import ExactIndex
from recollect_server.stores.sql.audit import SqlAuditLog
from recollect_server.stores.sql.changes import SqlChangeStore
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.episodes import SqlEpisodeStore
from recollect_server.stores.sql.erasing import SqlErasures
from recollect_server.stores.sql.exporting import SqlExports
from recollect_server.stores.sql.facts import SqlFactStore
from recollect_server.stores.sql.importing import SqlImports
from recollect_server.stores.sql.indexing import SqlIndexSource
from recollect_server.stores.sql.jobs import SqlJobQueue
from recollect_server.stores.sql.keys import SqlApiKeyStore
from recollect_server.stores.sql.sessions import SqlSessionStore
from recollect_server.stores.sql.turns import SqlTurnStore
from recollect_server.stores.sql.users import being_erased
from recollect_server.stores.valkey.connect import Client, connect
from recollect_server.stores.valkey.ephemeral import ValkeySessions
from recollect_server.stores.valkey.erasing import ValkeyAnswerData, ValkeySessionData
from recollect_server.stores.valkey.flights import ValkeyFlights
from recollect_server.stores.valkey.notices import ValkeyNotices
from recollect_server.stores.valkey.relay import ValkeyRelay
from recollect_server.stores.valkey.window import ValkeyWindowCache
from recollect_server.stores.vectors import SwitchingIndex
from recollect_server.telemetry import Telemetry
from recollect_server.vectors import open_feeder, open_vectors

log = structlog.get_logger("recollect.app")


@dataclass(frozen=True, slots=True)
class Started:
    """A server that serves.

    Attributes:
        address: HOST:PORT or unix:PATH.
        notice: one sentence about the chat provider.
    """

    address: str
    notice: str


async def serve(settings: Settings, on_ready: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        on_ready: called once the server reports SERVING.

    Raises:
        StartError: a part did not start.
    """
    ended = _until_signal()
    async with AsyncExitStack() as stack:
        started = await _start(stack, settings)
        on_ready(started)
        await ended.wait()
        log.info("draining", grace_seconds=settings.grace_seconds)


async def work(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Do the background work of a database until SIGTERM or SIGINT, apart from any server.

    Args:
        on_ready: called once the work is under way.

    Raises:
        StartError: a part did not start.
    """
    ended = _until_signal()
    async with AsyncExitStack() as stack:
        telemetry = await open_telemetry(stack, settings)
        database = telemetry.watch_database(await open_database(stack, settings))
        embedder = await open_embedder(stack, settings, background=True)
        embedder = telemetry.watch_embedder(embedder, "stored")
        queue = await open_queue(database, embedder)
        model, _ = open_chat_model(stack, settings, telemetry.watch_model)
        policy = due_policy(settings)
        sessions = SqlSessionStore(database, utc_now, policy)
        facts = SqlFactStore(database, utc_now)
        source = SqlIndexSource(database, utc_now, embedder.model)
        index = ExactIndex(source, embedder, budget=settings.index_bytes)
        reconciler = Reconciler(facts, index, source, judge_of(model, settings), utc_now)
        extractor = extractor_of(model, settings)
        loops = worker_loops(
            database,
            sessions,
            queue,
            embedder,
            summarizer_of(model, settings),
            Extraction(sessions, facts, reconciler, extractor, policy, utc_now),
            policy,
            asyncio.Event(),
            Activity(settings.activity_file),
            telemetry,
        )
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
        on_ready()
        await ended.wait()


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


def _until_signal() -> asyncio.Event:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended


async def _start(stack: AsyncExitStack, settings: Settings) -> Started:
    telemetry = await open_telemetry(stack, settings)
    embedder, database, (state_url, cache_url) = await asyncio.gather(
        open_embedder(stack, settings),
        open_database(stack, settings),
        open_valkey(stack, settings),
    )
    urgent = telemetry.watch_embedder(embedder, "stored")
    embedder = telemetry.watch_embedder(embedder, "query")
    database = telemetry.watch_database(database)
    queue = await open_queue(database, embedder)
    state, cache = _connect(stack, state_url, cache_url)
    state, cache = telemetry.watch_client(state, "state"), telemetry.watch_client(cache, "cache")
    model, notice = open_chat_model(stack, settings, telemetry.watch_model)
    policy = due_policy(settings)
    summarizer = summarizer_of(model, settings)
    work_added = asyncio.Event()
    activity = Activity(settings.activity_file)
    notices = ValkeyNotices(state_url)
    windows = Windows(ValkeyWindowCache(state), budget=settings.window_bytes)
    durable = SqlSessionStore(database, utc_now, policy)
    source = SqlIndexSource(database, utc_now, embedder.model)
    vectors = await open_vectors(stack, settings, database, source, embedder)
    facts = SqlFactStore(database, utc_now)
    judge = judge_of(model, settings)
    reconciler = Reconciler(facts, vectors.index, vectors.index, judge, utc_now)
    extractor = extractor_of(model, settings)
    extraction = Extraction(durable, facts, reconciler, extractor, policy, utc_now)
    sessions = Sessions(durable, ValkeySessions(state, utc_now))
    memory = Memory(
        sessions=sessions,
        facts=facts,
        episodes=SqlEpisodeStore(database, utc_now),
        windows=windows,
        index=vectors.index,
        source=vectors.index,
        reconciler=reconciler,
        notices=notices,
        max_message_bytes=settings.max_message_bytes,
        work_added=work_added,
        clock=utc_now,
    )
    audit = SqlAuditLog(database, utc_now)
    contexts = ContextBuilder(memory, audit)
    answers = await open_answers(stack, settings, cache, database, embedder, facts, model)
    limits_file, limits = open_limits(settings)
    quotas = open_quotas(stack, settings, limits, database, state)
    turns = SqlTurnStore(database, utc_now, policy)
    relay = ValkeyRelay(state_url, uuid7())
    keeper = Keeper(turns, relay)
    following = Following(turns, keeper, relay)
    chat = Chat(
        memory,
        Collaborators(
            contexts=contexts,
            cache=answers.cache,
            turns=turns,
            flights=ValkeyFlights(state),
            keeper=keeper,
            following=following,
            relay=relay,
            notices=notices,
            model=model,
            changed=memory.changed,
            audit=audit,
            charge=quotas.charge_tokens,
        ),
        chat_defaults(settings),
    )
    keys = ApiKeys(SqlApiKeyStore(database, utc_now), utc_now)
    server_facts = ServerFacts(
        version=version("recollect-server"),
        chat_provider=model.name,
        chat_model=model.default_model,
        chat_notice=notice,
        embedding_model=embedder.model,
        embedding_dimensions=embedder.dimensions,
        authentication=bool(settings.auth),
        max_message_bytes=settings.max_message_bytes,
        max_request_bytes=settings.max_request_bytes,
        probe=_probe(settings, database, state, cache, vectors.index),
        backlog=queue.backlog,
    )
    watch = Watch(SqlChangeStore(database), notices)
    gate = Gate(being_erased)

    async def places() -> tuple[UserData, ...]:
        return (ValkeySessionData(state), ValkeyAnswerData(cache), *await vectors.places())

    memories: list[UserMemory] = [windows, sessions, vectors.index, chat, *answers.memories]
    erasing = Erasing(SqlErasures(database, utc_now), places, memories, gate)
    importing = Importing(SqlImports(database, utc_now), settings.max_message_bytes)
    loops: Loops = {
        "windows": windows.run,
        "notices": notices.run,
        "turns": keeper.run,
        "relay": relay.run,
        "erasing": erasing.run,
        "importing": importing.run,
        "keys": keys.run,
        **vectors.loops,
        **answers.loops,
        **forgetting_loop(database, answers.cache, telemetry),
    }
    if limits_file is not None:
        loops["limits"] = partial(limits_file.watch, quotas.change)
    if settings.worker:
        background = await open_embedder(stack, settings, background=True)
        background = telemetry.watch_embedder(background, "stored")
        loops |= worker_loops(
            database,
            durable,
            queue,
            background,
            summarizer,
            extraction,
            policy,
            work_added,
            activity,
            telemetry,
            # A model may tell questions from passages; this one embeds questions.
            urgent if settings.embedder_choice[0] != "sentence-transformers" else None,
        )
        loops |= sealing_loop(database, settings)
    await stack.enter_async_context(running(loops))
    server = _listen(
        settings,
        (
            MemoryServicer(
                memory,
                contexts,
                Compactor(durable, summarizer, policy, utc_now),
                extraction,
                watch,
            ),
            CacheServicer(answers.cache, answers.maintenance, utc_now),
            ChatServicer(chat),
            AdminServicer(
                keys,
                SqlJobQueue(database, utc_now),
                audit,
                server_facts,
                vectors.reindexing,
                erasing,
                Exporting(SqlExports(database, utc_now), utc_now),
                importing,
                quotas,
            ),
        ),
        open_authenticator(stack, settings, keys),
        activity,
        quotas if limits_file is not None else None,
        gate,
        telemetry,
        _audited(settings, audit),
    )
    sources = Sources(
        telemetry,
        database.writer,
        queue.backlog,
        SqlJobQueue(database, utc_now).depths,
        probe=server_facts.probe,
        paused=model.paused if isinstance(model, GuardedModel) else None,
        stages=vectors.stages,
        index=vectors.index,
        windows=windows,
        cache=answers.statistics,
        quotas=quotas,
    )
    publish_metrics(stack, settings, sources)
    await server.start()
    stack.push_async_callback(keys.flush)
    stack.push_async_callback(windows.flush)
    stack.push_async_callback(answers.flush)
    stack.push_async_callback(chat.drain, settings.grace_seconds)
    stack.push_async_callback(server.drain, settings.grace_seconds)
    stack.callback(watch.end)
    return Started(_address(settings.listen, server.port), notice)


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


def _listen(
    settings: Settings,
    servicers: tuple[MemoryServicer, CacheServicer, ChatServicer, AdminServicer],
    authenticator: Authenticator | None,
    activity: Activity,
    quotas: Quotas | None,
    gate: Gate,
    telemetry: Telemetry,
    auditing: Audited | None,
) -> RpcServer:
    credentials = open_credentials(settings)
    try:
        return RpcServer(
            servicers,
            listen=settings.listen,
            health_listen=settings.health_listen,
            options=ServerOptions(
                max_request_bytes=settings.max_request_bytes,
                max_connection_age=settings.max_connection_age,
                share_port=settings.share_port,
                credentials=credentials,
            ),
            authenticator=authenticator,
            activity=activity,
            quotas=quotas,
            gate=gate,
            counts=telemetry.call_counts,
            auditing=auditing,
        )
    except RuntimeError as error:
        raise StartError(
            f"cannot listen on {_addresses(settings)}: another program may use it, "
            "see --listen for another address"
        ) from error


def _audited(settings: Settings, events: AuditLog) -> Audited | None:
    try:
        methods = audited(settings.audit)
    except ValueError as error:
        raise StartError(f"audit: {error}") from error
    return Audited(events, methods) if methods else None


def _addresses(settings: Settings) -> str:
    return " and ".join(filter(None, (settings.listen, settings.health_listen)))


def _probe(
    settings: Settings, database: Database, state: Client, cache: Client, index: SwitchingIndex
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
        answers = await asyncio.gather(sql(), valkey(state), valkey(cache), index.available())
        sql_kind = "postgresql" if settings.uses_postgres else "sqlite"
        names = ("sql", sql_kind), ("state", "valkey"), ("cache", "valkey"), ("index", index.kind)
        return tuple(StoreState(n, k, up) for (n, k), up in zip(names, answers, strict=True))

    return probe


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[ApiKeys]:
    """Give the API keys of a data directory, also while a server uses it."""
    async with AsyncExitStack() as stack:
        database = await open_database(stack, settings)
        yield ApiKeys(SqlApiKeyStore(database, utc_now), utc_now)


def _address(listen: str, port: int) -> str:
    if listen.startswith("unix"):
        return listen
    return f"{listen.rpartition(':')[0]}:{port}"
