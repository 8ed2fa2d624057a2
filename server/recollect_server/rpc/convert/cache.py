"""Conversions of CacheService."""

from datetime import datetime, timedelta

from recollect.v1 import cache_pb2 as pb
from recollect_server.cache.model import (
    CacheEntry,
    CacheOptions,
    CacheScope,
    LookupResult,
    MissReason,
)
from recollect_server.rpc.convert.common import (
    degradations,
    from_part,
    from_seconds,
    from_time,
    from_usage,
)

DEFAULT_TTL = timedelta(minutes=30)


def to_scope(scope: int) -> CacheScope:
    """Return the domain's scope; not said means USER."""
    return CacheScope(scope or CacheScope.USER)


def to_options(request: pb.StoreRequest) -> CacheOptions:
    """Return how to store an answer."""
    return CacheOptions(
        ttl=request.ttl.ToTimedelta() or DEFAULT_TTL,
        tags=tuple(request.tags),
        cited_fact_ids=tuple(request.cited_fact_ids),
        holds_memory=request.holds_memory,
    )


def from_entry(entry: CacheEntry) -> pb.CacheEntry:
    """Return the protobuf message."""
    return pb.CacheEntry(
        entry_id=entry.entry_id,
        scope=pb.CacheScope.ValueType(entry.scope),
        session_id=entry.session_id,
        model=entry.model,
        question=entry.question,
        answer=[from_part(part) for part in entry.answer],
        usage=from_usage(entry.usage),
        tags=entry.tags,
        cited_fact_ids=entry.cited_fact_ids,
        holds_memory=entry.holds_memory,
        create_time=from_time(entry.create_time),
        expire_time=from_time(entry.expire_time),
    )


def from_lookup(result: LookupResult, now: datetime) -> pb.LookupResponse:
    """Return the response of Lookup."""
    if result.entry is None:
        return pb.LookupResponse(
            miss_reason=pb.MissReason.ValueType(result.miss_reason or MissReason.NOT_FOUND),
            degradations=degradations(answers_down=result.miss_reason is MissReason.DEGRADED),
        )
    age = max(0.0, (now - result.entry.create_time).total_seconds())
    return pb.LookupResponse(
        hit=True,
        entry=from_entry(result.entry),
        tier=pb.CacheTier.ValueType(result.tier or 0),
        probability=result.probability,
        age=from_seconds(age),
    )
