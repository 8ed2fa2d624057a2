"""Conversions of CacheService."""

from datetime import datetime, timedelta
from functools import cache
from typing import Any

from recollect.v1 import cache_pb2 as pb
from recollect_server.cache.maintenance import Doomed
from recollect_server.cache.model import (
    DEFAULT_OPTIONS,
    CacheEntry,
    CacheOptions,
    CacheScope,
    CacheStats,
    CacheTier,
    Explanation,
    LookupOptions,
    LookupResult,
    MissReason,
    Strategy,
)
from recollect_server.errors import InvalidArgument
from recollect_server.rpc.convert.common import (
    add_parts,
    degradations,
    from_seconds,
    from_usage,
    set_time,
    set_usage,
    to_prompt,
    to_time,
)

_SCOPES = {int(scope): scope for scope in CacheScope} | {0: CacheScope.USER}
_STRATEGIES = {int(strategy): strategy for strategy in Strategy} | {0: Strategy.VERIFIER}
DEFAULT_TTL = timedelta(minutes=30)
_NO_TIME = timedelta()


def to_scope(scope: int) -> CacheScope:
    """Return the domain's scope; not said means USER."""
    return _SCOPES[scope]


def to_options(request: pb.StoreRequest) -> CacheOptions:
    """Return how to store an answer."""
    return CacheOptions(
        ttl=request.ttl.ToTimedelta() if request.HasField("ttl") else DEFAULT_TTL,
        tags=tuple(request.tags),
        cited_fact_ids=tuple(request.cited_fact_ids),
        holds_memory=request.holds_memory,
        context_time=to_time(request.context_time) if request.HasField("context_time") else None,
    )


def from_entry(entry: CacheEntry) -> pb.CacheEntry:
    """Return the protobuf message."""
    message = pb.CacheEntry()
    _set_entry(message, entry)
    return message


def _set_entry(target: Any, entry: CacheEntry) -> None:
    """Fill an empty CacheEntry in place: every hit pays for it."""
    target.entry_id = entry.entry_id
    target.scope = entry.scope
    target.session_id = entry.session_id
    target.model = entry.model
    target.question = entry.question
    add_parts(target.answer, entry.answer)
    set_usage(target.usage, entry.usage)
    target.tags.extend(entry.tags)
    target.cited_fact_ids.extend(entry.cited_fact_ids)
    target.holds_memory = entry.holds_memory
    set_time(target.create_time, entry.create_time)
    set_time(target.expire_time, entry.expire_time)


@cache
def _tiers(asked: tuple[int, ...]) -> frozenset[CacheTier]:
    return frozenset(map(CacheTier, asked)) or DEFAULT_OPTIONS.tiers


def to_lookup_options(request: pb.LookupRequest) -> LookupOptions:
    """Return how to look.

    Raises:
        InvalidArgument: fields that contradict each other.
    """
    strategy = _STRATEGIES[request.strategy]
    limit = request.WhichOneof("limit")
    if strategy is Strategy.CONTEXT_WINDOW and limit == "max_false_hit_rate":
        raise InvalidArgument(
            "max_false_hit_rate", "must be unset with CONTEXT_WINDOW; set max_distance instead"
        )
    window, default = request.context_window, DEFAULT_OPTIONS
    by_rate = limit == "max_false_hit_rate"
    return LookupOptions(
        tiers=_tiers(tuple(request.tiers)),
        any_model=request.any_model,
        strategy=strategy,
        max_false_hit_rate=request.max_false_hit_rate if by_rate else default.max_false_hit_rate,
        max_distance=request.max_distance if limit == "max_distance" else None,
        window_messages=window.messages or default.window_messages,
        window_characters=window.characters or default.window_characters,
        explain=request.explain,
    )


def to_doomed(request: pb.InvalidateRequest) -> Doomed:
    """Return which entries to remove."""
    match request.WhichOneof("selector"):
        case "scope":
            return Doomed(scope=to_scope(request.scope.scope), session_id=request.scope.session_id)
        case "tag":
            return Doomed(tag=request.tag)
        case "cited_fact_id":
            return Doomed(fact_id=request.cited_fact_id)
        case "similar":
            return Doomed(
                similar=to_prompt(request.similar.prompt),
                min_similarity=request.similar.min_similarity,
            )
        case _:
            return Doomed(entry_id=request.entry_id)


def from_stats(stats: CacheStats) -> pb.GetStatsResponse:
    """Return the response of GetStats."""
    return pb.GetStatsResponse(
        lookups=stats.lookups,
        exact_hits=stats.exact_hits,
        semantic_hits=stats.semantic_hits,
        misses=[
            pb.MissCount(reason=pb.MissReason.ValueType(reason), count=count)
            for reason, count in stats.misses.items()
        ],
        saved_usage=from_usage(stats.saved_usage),
        saved_usd=stats.saved_usd,
        reported_wrong=stats.reported_wrong,
        reported_right=stats.reported_right,
        entries=stats.entries,
        entry_bytes=stats.entry_bytes,
        median_lookup=from_seconds(stats.median_seconds),
        observed_false_hit_rate=stats.observed_false_hit_rate,
    )


def _from_explanation(seen: Explanation | None) -> pb.LookupExplanation | None:
    if seen is None:
        return None
    return pb.LookupExplanation(
        nearest_entry_id=seen.entry_id,
        probability=seen.probability,
        threshold=seen.threshold,
        features=[pb.CacheFeature(name=n, value=v) for n, v in seen.features.items()],
    )


def from_lookup(result: LookupResult, now: datetime, *, explain: bool) -> pb.LookupResponse:
    """Return the response of Lookup."""
    down = degradations(answers_down=result.answers_down, no_vectors=result.embedder_down)
    explanation = _from_explanation(result.explanation) if explain else None
    if result.entry is None:
        return pb.LookupResponse(
            miss_reason=pb.MissReason.ValueType(result.miss_reason or MissReason.NOT_FOUND),
            explanation=explanation,
            degradations=down,
        )
    response = pb.LookupResponse(
        hit=True,
        tier=pb.CacheTier.ValueType(result.tier or 0),
        probability=result.probability,
        explanation=explanation,
        degradations=down,
    )
    _set_entry(response.entry, result.entry)
    response.age.FromTimedelta(max(_NO_TIME, now - result.entry.create_time))
    return response
