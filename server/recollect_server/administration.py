"""Wires what operators use together: keys, limits, erasure, import, the server's facts."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version

from recollect_server.admin.erasing import Erasing
from recollect_server.admin.erasure import UserData, UserMemory
from recollect_server.admin.gate import Gate
from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.portability import Importing
from recollect_server.admin.quotas import Quotas
from recollect_server.admin.server import ServerFacts, StoreState
from recollect_server.answers import Answers
from recollect_server.chat.service import Chat
from recollect_server.config import Settings
from recollect_server.errors import Unavailable
from recollect_server.memories import MemoryParts
from recollect_server.opened import Opened
from recollect_server.parts import utc_now
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.erasing import SqlErasures
from recollect_server.stores.sql.importing import SqlImports
from recollect_server.stores.sql.keys import SqlApiKeyStore
from recollect_server.stores.sql.users import being_erased
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.erasing import ValkeyAnswerData, ValkeySessionData
from recollect_server.stores.vectors import SwitchingIndex


@dataclass(frozen=True, slots=True)
class AdminParts:
    """What operators use."""

    keys: ApiKeys
    quotas: Quotas
    server_facts: ServerFacts
    gate: Gate
    erasing: Erasing
    importing: Importing


def make_admin(
    settings: Settings,
    opened: Opened,
    memory: MemoryParts,
    answers: Answers,
    chat: Chat,
    quotas: Quotas,
) -> AdminParts:
    """Wire what operators use."""
    database, vectors = opened.database, memory.vectors
    gate = Gate(being_erased)

    async def places() -> tuple[UserData, ...]:
        return (
            ValkeySessionData(opened.state),
            ValkeyAnswerData(opened.cache),
            *await vectors.places(),
        )

    memories: list[UserMemory] = [
        memory.windows,
        memory.sessions,
        vectors.index,
        chat,
        *answers.memories,
    ]
    return AdminParts(
        keys=ApiKeys(SqlApiKeyStore(database, utc_now), utc_now),
        quotas=quotas,
        server_facts=ServerFacts(
            version=version("recollect-server"),
            chat_provider=opened.model.name,
            chat_model=opened.model.default_model,
            chat_notice=opened.notice,
            embedding_model=opened.embedder.model,
            embedding_dimensions=opened.embedder.dimensions,
            authentication=bool(settings.auth),
            max_message_bytes=settings.max_message_bytes,
            max_request_bytes=settings.max_request_bytes,
            probe=_probe(settings, database, opened.state, opened.cache, vectors.index),
            backlog=opened.queue.backlog,
        ),
        gate=gate,
        erasing=Erasing(SqlErasures(database, utc_now), places, memories, gate),
        importing=Importing(SqlImports(database, utc_now), settings.max_message_bytes),
    )


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
