"""Wires conversation memory together."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from recollect_server.config import Settings
from recollect_server.memory.context_builder import ContextBuilder
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.extraction import Extraction
from recollect_server.memory.ports import Summarizer
from recollect_server.memory.recalling import Recaller
from recollect_server.memory.reconciliation import Reconciler
from recollect_server.memory.service import Memory
from recollect_server.memory.sessions import Sessions
from recollect_server.memory.windows import Windows
from recollect_server.opened import Opened
from recollect_server.parts import due_policy, extractor_of, judge_of, summarizer_of, utc_now
from recollect_server.stores.sql.audit import SqlAuditLog
from recollect_server.stores.sql.episodes import SqlEpisodeStore
from recollect_server.stores.sql.facts import SqlFactStore
from recollect_server.stores.sql.indexing import SqlIndexSource
from recollect_server.stores.sql.sessions import SqlSessionStore
from recollect_server.stores.valkey.ephemeral import ValkeySessions
from recollect_server.stores.valkey.notices import ValkeyNotices
from recollect_server.stores.valkey.window import ValkeyWindowCache
from recollect_server.vectors import Vectors, open_vectors


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Conversation memory and what it is made of.

    Attributes:
        durable: the sessions in SQL; `sessions` has the ephemeral ones, too.
        work_added: set when there is background work.
    """

    memory: Memory
    recaller: Recaller
    sessions: Sessions
    durable: SqlSessionStore
    facts: SqlFactStore
    vectors: Vectors
    windows: Windows
    notices: ValkeyNotices
    contexts: ContextBuilder
    audit: SqlAuditLog
    summarizer: Summarizer
    extraction: Extraction
    policy: DuePolicy
    work_added: asyncio.Event


async def open_memory(stack: AsyncExitStack, settings: Settings, opened: Opened) -> MemoryParts:
    """Wire conversation memory. Raises `StartError`, as `open_vectors` does."""
    database, model = opened.database, opened.model
    policy = due_policy(settings)
    work_added = asyncio.Event()
    notices = ValkeyNotices(opened.state_url)
    windows = Windows(ValkeyWindowCache(opened.state), budget=settings.window_bytes)
    durable = SqlSessionStore(database, utc_now, policy)
    source = SqlIndexSource(database, utc_now, opened.embedder.model)
    vectors = await open_vectors(stack, settings, database, source, opened.embedder)
    facts = SqlFactStore(database, utc_now)
    judge = judge_of(model, settings)
    reconciler = Reconciler(facts, vectors.index, vectors.index, judge, utc_now)
    extractor = extractor_of(model, settings)
    sessions = Sessions(durable, ValkeySessions(opened.state, utc_now))
    episodes = SqlEpisodeStore(database, utc_now)
    memory = Memory(
        sessions=sessions,
        facts=facts,
        episodes=episodes,
        windows=windows,
        reconciler=reconciler,
        notices=notices,
        max_message_bytes=settings.max_message_bytes,
        work_added=work_added,
        clock=utc_now,
    )
    recaller = Recaller(
        sessions=sessions,
        facts=facts,
        episodes=episodes,
        index=vectors.index,
        source=vectors.index,
        clock=utc_now,
    )
    audit = SqlAuditLog(database, utc_now)
    return MemoryParts(
        memory=memory,
        recaller=recaller,
        sessions=sessions,
        durable=durable,
        facts=facts,
        vectors=vectors,
        windows=windows,
        notices=notices,
        contexts=ContextBuilder(memory, recaller, audit),
        audit=audit,
        summarizer=summarizer_of(model, settings),
        extraction=Extraction(durable, facts, reconciler, extractor, policy, utc_now),
        policy=policy,
        work_added=work_added,
    )
