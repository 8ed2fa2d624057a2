"""Wires the answer cache together."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from recollect_server.admin.erasure import UserMemory
from recollect_server.cache.maintenance import CacheMaintenance
from recollect_server.cache.ports import Facts
from recollect_server.cache.semantic import SemanticTier
from recollect_server.cache.service import AnswerCache
from recollect_server.cache.statistics import Statistics
from recollect_server.cache.vectors import MessageVectors
from recollect_server.cache.verifier import load
from recollect_server.chat.model import Completion, FinishReason
from recollect_server.chat.ports import ChatModel
from recollect_server.config import Settings
from recollect_server.memory.ports import Embedder
from recollect_server.memory.prompt import Usage
from recollect_server.parts import utc_now
from recollect_server.stores.sql.cache_records import SqlCacheRecords
from recollect_server.stores.sql.database import Database
from recollect_server.stores.valkey.answers import Limits, ValkeyAnswers
from recollect_server.stores.valkey.breaker import Circuit, ImpatientClient
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.sweeper import RegisterSweeper
from recollect_server.stores.valkey_search import BestIndex


@dataclass(frozen=True, slots=True)
class Answers:
    """The answer cache and what keeps it.

    Attributes:
        loops: what must run beside it.
        flush: to be awaited at the end.
        memories: what of it this process keeps of users.
        statistics: what lookups of this process found.
    """

    cache: AnswerCache
    maintenance: CacheMaintenance
    loops: Mapping[str, Callable[[], Awaitable[None]]]
    flush: Callable[[], Awaitable[None]]
    memories: tuple[UserMemory, ...]
    statistics: Statistics


async def open_answers(
    stack: AsyncExitStack,
    settings: Settings,
    lookups: Client,
    client: Client,
    database: Database,
    embedder: Embedder,
    facts: Facts,
    model: ChatModel,
) -> Answers:
    """Open the answer cache.

    Args:
        lookups: Valkey for what a lookup asks; given up soon.
        client: the same Valkey for everything else.
    """
    circuit = Circuit()
    stack.push_async_callback(circuit.close)
    hasty = ImpatientClient(lookups, circuit)
    patient = ImpatientClient(client, circuit)
    index = BestIndex(hasty, patient, 3 * embedder.dimensions, settings.mirror_bytes)
    await index.try_open()
    store = ValkeyAnswers(
        hasty,
        patient,
        index,
        limits=Limits(settings.cache_entries, settings.cache_bytes),
        clock=utc_now,
    )
    records = SqlCacheRecords(database, utc_now)
    vectors = MessageVectors(embedder)
    verifier = load()
    statistics = Statistics(store, records)

    def price(name: str, usage: Usage) -> float:
        return model.cost_usd(Completion((), FinishReason.STOP, usage, name))

    cache = AnswerCache(
        store=store,
        records=records,
        vectors=vectors,
        semantic=SemanticTier(vectors, store, records, verifier, utc_now),
        statistics=statistics,
        facts=facts,
        allow_global=settings.allow_global_cache,
        price=price,
        clock=utc_now,
    )
    maintenance = CacheMaintenance(cache, store, records, vectors, verifier, statistics)
    loops = {"cache statistics": statistics.run, "cache registers": RegisterSweeper(patient).run}
    return Answers(cache, maintenance, loops, statistics.flush, (statistics, index), statistics)
