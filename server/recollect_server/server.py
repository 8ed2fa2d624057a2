"""Wires a server: the one place where its stores, models and services meet."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from recollect_server.activity import Activity
from recollect_server.admin.gate import Gate
from recollect_server.admin.portability import Exporting
from recollect_server.admin.quotas import Quotas
from recollect_server.administration import AdminParts, make_admin
from recollect_server.answers import Answers, open_answers
from recollect_server.background import Loops, forgetting_loop, running, sealing_loop, worker_loops
from recollect_server.chat.following import Following
from recollect_server.chat.keeper import Keeper
from recollect_server.chat.service import Chat
from recollect_server.chat.work import Collaborators
from recollect_server.config import Settings
from recollect_server.ids import uuid7
from recollect_server.memories import MemoryParts, open_memory
from recollect_server.memory.audit import AuditLog
from recollect_server.memory.embedding import EmbeddingWorker
from recollect_server.memory.watch import Watch
from recollect_server.metrics import Sources
from recollect_server.models.guarded import GuardedModel
from recollect_server.observability import publish_metrics
from recollect_server.opened import Opened, open_all
from recollect_server.parts import (
    StartError,
    chat_defaults,
    open_activity,
    open_embedder,
    open_limits,
    open_quotas,
    utc_now,
)
from recollect_server.rpc.auditing import Audited, audited
from recollect_server.rpc.authentication import Authenticator
from recollect_server.rpc.server import RpcServer, ServerOptions
from recollect_server.rpc.services.admin import AdminServicer
from recollect_server.rpc.services.cache import CacheServicer
from recollect_server.rpc.services.chat import ChatServicer
from recollect_server.rpc.services.memory import MemoryServicer
from recollect_server.security import open_authenticator, open_credentials
from recollect_server.stores.sql.changes import SqlChangeStore
from recollect_server.stores.sql.exporting import SqlExports
from recollect_server.stores.sql.jobs import SqlJobQueue
from recollect_server.stores.sql.turns import SqlTurnStore
from recollect_server.stores.valkey.flights import ValkeyFlights
from recollect_server.stores.valkey.relay import ValkeyRelay
from recollect_server.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Started:
    """A server that serves.

    Attributes:
        address: HOST:PORT or unix:PATH.
        notice: one sentence about the chat provider.
    """

    address: str
    notice: str


async def open_server(stack: AsyncExitStack, settings: Settings) -> Started:
    """Start a server, which drains and ends with the stack.

    Raises:
        StartError: a part did not start.
    """
    opened = await open_all(stack, settings)
    memory = await open_memory(stack, settings, opened)
    answers = await open_answers(
        stack,
        settings,
        opened.lookups,
        opened.cache,
        opened.database,
        opened.embedder,
        memory.work.facts,
        opened.model,
    )
    limits_file, limits = open_limits(settings)
    quotas = open_quotas(stack, settings, limits, opened.database, opened.state_url)
    chat, chat_loops = _make_chat(settings, opened, memory, answers, quotas)
    admin = make_admin(settings, opened, memory, answers, chat, quotas)
    activity = open_activity(settings)
    loops = _loops(opened, memory, answers, admin) | chat_loops | {"activity": activity.run}
    if limits_file is not None:
        loops["limits"] = partial(limits_file.watch, quotas.change)
    if settings.worker:
        loops |= await _open_background(stack, settings, opened, memory, activity)
    await stack.enter_async_context(running(loops))
    watch = Watch(SqlChangeStore(opened.database), memory.notices)
    server = _listen(
        settings,
        _servicers(opened, memory, answers, chat, admin, watch),
        open_authenticator(stack, settings, admin.keys),
        quotas if limits_file is not None else None,
        admin.gate,
        opened.telemetry,
        _audited(settings, memory.audit),
    )
    publish_metrics(stack, settings, _sources(opened, memory, answers, admin))
    await server.start()
    stack.push_async_callback(admin.keys.flush)
    stack.push_async_callback(memory.windows.flush)
    stack.push_async_callback(answers.flush)
    stack.push_async_callback(chat.drain, settings.grace_seconds)
    stack.push_async_callback(server.drain, settings.grace_seconds)
    stack.callback(watch.end)
    return Started(_address(settings.listen, server.port), opened.notice)


def _loops(opened: Opened, memory: MemoryParts, answers: Answers, admin: AdminParts) -> Loops:
    """Return what every server does beside its calls, by name."""
    return {
        "windows": memory.windows.run,
        "notices": memory.notices.run,
        "erasing": admin.erasing.run,
        "importing": admin.importing.run,
        "keys": admin.keys.run,
        **memory.vectors.loops,
        **answers.loops,
        **forgetting_loop(opened.database, answers.cache, opened.telemetry),
    }


def _make_chat(
    settings: Settings, opened: Opened, memory: MemoryParts, answers: Answers, quotas: Quotas
) -> tuple[Chat, Loops]:
    turns = SqlTurnStore(opened.database, utc_now, memory.work.policy, memory.windows.appended)
    relay = ValkeyRelay(opened.state_url, uuid7())
    keeper = Keeper(turns, relay)
    following = Following(turns, keeper, relay)
    chat = Chat(
        memory.memory,
        Collaborators(
            contexts=memory.contexts,
            cache=answers.cache,
            turns=turns,
            flights=ValkeyFlights(opened.state),
            keeper=keeper,
            following=following,
            relay=relay,
            notices=memory.notices,
            model=opened.model,
            changed=memory.memory.changed,
            audit=memory.audit,
            charge=quotas.charge_tokens,
        ),
        chat_defaults(settings),
    )
    return chat, {"turns": keeper.run, "relay": relay.run}


async def _open_background(
    stack: AsyncExitStack,
    settings: Settings,
    opened: Opened,
    memory: MemoryParts,
    activity: Activity,
) -> Loops:
    """Return what a worker would do, done by this server."""
    embedder = await open_embedder(stack, settings, background=True)
    embedding = EmbeddingWorker(
        opened.queue,
        opened.telemetry.watch_embedder(embedder, "stored"),
        memory.work_added,
        activity,
        # A model may tell questions from passages; this one embeds questions.
        opened.urgent if settings.embedder_choice[0] != "sentence-transformers" else None,
    )
    loops = worker_loops(
        opened.database, memory.work, embedding, memory.work_added, activity, opened.telemetry
    )
    return loops | sealing_loop(opened.database, settings)


def _servicers(
    opened: Opened,
    memory: MemoryParts,
    answers: Answers,
    chat: Chat,
    admin: AdminParts,
    watch: Watch,
) -> tuple[MemoryServicer, CacheServicer, ChatServicer, AdminServicer]:
    work = memory.work
    return (
        MemoryServicer(
            memory.memory,
            memory.recaller,
            memory.contexts,
            work.compactor,
            work.extraction,
            watch,
        ),
        CacheServicer(answers.cache, answers.maintenance, utc_now),
        ChatServicer(chat),
        AdminServicer(
            admin.keys,
            SqlJobQueue(opened.database, utc_now),
            memory.audit,
            admin.server_facts,
            memory.vectors.reindexing,
            admin.erasing,
            Exporting(SqlExports(opened.database, utc_now), utc_now),
            admin.importing,
            admin.quotas,
        ),
    )


def _sources(opened: Opened, memory: MemoryParts, answers: Answers, admin: AdminParts) -> Sources:
    return Sources(
        opened.telemetry,
        opened.database.writer,
        opened.queue.backlog,
        SqlJobQueue(opened.database, utc_now).depths,
        probe=admin.server_facts.probe,
        paused=opened.model.paused if isinstance(opened.model, GuardedModel) else None,
        stages=memory.vectors.stages,
        index=memory.vectors.index,
        windows=memory.windows,
        cache=answers.statistics,
        quotas=admin.quotas,
    )


def _listen(
    settings: Settings,
    servicers: tuple[MemoryServicer, CacheServicer, ChatServicer, AdminServicer],
    authenticator: Authenticator | None,
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


def _address(listen: str, port: int) -> str:
    if listen.startswith("unix"):
        return listen
    return f"{listen.rpartition(':')[0]}:{port}"
