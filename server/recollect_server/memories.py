"""Wires conversation memory together."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from recollect_server.config import Settings
from recollect_server.memory.context_builder import ContextBuilder
from recollect_server.memory.recalling import Recaller
from recollect_server.memory.service import Memory
from recollect_server.memory.sessions import Sessions
from recollect_server.memory.windows import Windows
from recollect_server.opened import Opened
from recollect_server.parts import utc_now
from recollect_server.session_work import SessionWork, make_session_work
from recollect_server.stores.sql.audit import SqlAuditLog
from recollect_server.stores.sql.indexing import SqlIndexSource
from recollect_server.stores.valkey.ephemeral import ValkeySessions
from recollect_server.stores.valkey.notices import ValkeyNotices
from recollect_server.stores.valkey.window import ValkeyWindowCache
from recollect_server.vectors import Vectors, open_vectors


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Conversation memory and what it is made of.

    Attributes:
        work: has the sessions in SQL; `sessions` has the ephemeral ones, too.
        work_added: set when there is background work.
    """

    memory: Memory
    recaller: Recaller
    sessions: Sessions
    work: SessionWork
    vectors: Vectors
    windows: Windows
    notices: ValkeyNotices
    contexts: ContextBuilder
    audit: SqlAuditLog
    work_added: asyncio.Event


async def open_memory(stack: AsyncExitStack, settings: Settings, opened: Opened) -> MemoryParts:
    """Wire conversation memory. Raises `StartError`, as `open_vectors` does."""
    database = opened.database
    work_added = asyncio.Event()
    notices = ValkeyNotices(opened.state_url)
    windows = Windows(ValkeyWindowCache(opened.state), budget=settings.window_bytes)
    source = SqlIndexSource(database, utc_now, opened.embedder.model)
    vectors = await open_vectors(stack, settings, database, source, opened.embedder)
    work = make_session_work(settings, database, opened.model, vectors.index, vectors.index)
    sessions = Sessions(work.sessions, ValkeySessions(opened.state, utc_now))
    memory = Memory(
        sessions=sessions,
        facts=work.facts,
        episodes=work.episodes,
        windows=windows,
        reconciler=work.reconciler,
        notices=notices,
        max_message_bytes=settings.max_message_bytes,
        work_added=work_added,
        clock=utc_now,
    )
    recaller = Recaller(
        sessions=sessions,
        facts=work.facts,
        episodes=work.episodes,
        index=vectors.index,
        source=vectors.index,
        clock=utc_now,
    )
    audit = SqlAuditLog(database, utc_now)
    return MemoryParts(
        memory=memory,
        recaller=recaller,
        sessions=sessions,
        work=work,
        vectors=vectors,
        windows=windows,
        notices=notices,
        contexts=ContextBuilder(memory, recaller, audit),
        audit=audit,
        work_added=work_added,
    )
