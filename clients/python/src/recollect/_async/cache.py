"""CacheService."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta

from recollect._async.transport import AsyncTransport
from recollect._messages import duration, timestamp
from recollect.v1 import cache_pb2 as pb
from recollect.v1.common_pb2 import ContentPart, Prompt, Usage


class AsyncCache:
    """The answer cache. Every method takes `user_id` (default: the client's) and `timeout`
    in seconds (default: the client's), and raises `recollect.errors`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._user = transport.settings.user

    async def lookup(
        self,
        prompt: Prompt,
        *,
        session_id: str = "",
        scope: pb.CacheScope.ValueType = pb.CACHE_SCOPE_USER,
        any_model: bool = False,
        tiers: Sequence[pb.CacheTier.ValueType] = (),
        max_false_hit_rate: float | None = None,
        max_distance: float | None = None,
        strategy: pb.SemanticStrategy.ValueType = pb.SEMANTIC_STRATEGY_UNSPECIFIED,
        context_window: pb.ContextWindowParameters | None = None,
        recalled_fact_ids: Iterable[str] = (),
        explain: bool = False,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.LookupResponse:
        """Look for an answer to a prompt; a miss is a result."""
        request = pb.LookupRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            prompt=prompt,
            scope=scope,
            any_model=any_model,
            tiers=tiers,
            strategy=strategy,
            context_window=context_window,
            recalled_fact_ids=recalled_fact_ids,
            explain=explain,
        )
        if max_false_hit_rate is not None:
            request.max_false_hit_rate = max_false_hit_rate
        if max_distance is not None:
            request.max_distance = max_distance
        return await self._transport.unary(
            "CacheService/Lookup", request, pb.LookupResponse, timeout
        )

    async def batch_lookup(
        self,
        lookups: Iterable[pb.LookupRequest],
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> list[pb.LookupResponse]:
        """Look for answers to several prompts; results in their order."""
        request = pb.BatchLookupRequest(user_id=self._user(user_id), lookups=lookups)
        for lookup in request.lookups:
            lookup.user_id = lookup.user_id or request.user_id
        response = await self._transport.unary(
            "CacheService/BatchLookup", request, pb.BatchLookupResponse, timeout
        )
        return list(response.results)

    async def store(
        self,
        prompt: Prompt,
        answer: str | Iterable[ContentPart],
        *,
        session_id: str = "",
        scope: pb.CacheScope.ValueType = pb.CACHE_SCOPE_USER,
        ttl: timedelta | float | None = None,
        tags: Iterable[str] = (),
        cited_fact_ids: Iterable[str] = (),
        holds_memory: bool = False,
        usage: Usage | None = None,
        context_time: datetime | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.CacheEntry:
        """Store the answer to a prompt.

        Args:
            context_time: when the memory in the prompt was read; taken before it was asked for.
        """
        request = pb.StoreRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            prompt=prompt,
            answer=[ContentPart(text=answer)] if isinstance(answer, str) else answer,
            scope=scope,
            ttl=duration(ttl),
            tags=tags,
            cited_fact_ids=cited_fact_ids,
            holds_memory=holds_memory,
            usage=usage,
            context_time=timestamp(context_time),
        )
        response = await self._transport.unary(
            "CacheService/Store", request, pb.StoreResponse, timeout
        )
        return response.entry

    async def invalidate(
        self,
        *,
        entry_id: str | None = None,
        scope: pb.CacheScopeSelector | None = None,
        tag: str | None = None,
        cited_fact_id: str | None = None,
        similar: pb.SimilaritySelector | None = None,
        dry_run: bool = False,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Remove the entries that the one given selector names; return how many."""
        request = pb.InvalidateRequest(user_id=self._user(user_id), dry_run=dry_run)
        if entry_id is not None:
            request.entry_id = entry_id
        elif scope is not None:
            request.scope.CopyFrom(scope)
        elif tag is not None:
            request.tag = tag
        elif cited_fact_id is not None:
            request.cited_fact_id = cited_fact_id
        elif similar is not None:
            request.similar.CopyFrom(similar)
        response = await self._transport.unary(
            "CacheService/Invalidate", request, pb.InvalidateResponse, timeout
        )
        return response.count

    async def report_feedback(
        self,
        entry_id: str,
        prompt: Prompt,
        verdict: pb.Verdict.ValueType,
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Say that a served answer was right or wrong."""
        request = pb.ReportFeedbackRequest(
            user_id=self._user(user_id), entry_id=entry_id, prompt=prompt, verdict=verdict
        )
        await self._transport.unary(
            "CacheService/ReportFeedback", request, pb.ReportFeedbackResponse, timeout
        )

    async def get_stats(
        self,
        *,
        scope: pb.CacheScope.ValueType = pb.CACHE_SCOPE_USER,
        session_id: str = "",
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.GetStatsResponse:
        """Return hits, misses, savings and observed errors."""
        request = pb.GetStatsRequest(
            user_id=self._user(user_id), scope=scope, session_id=session_id
        )
        return await self._transport.unary(
            "CacheService/GetStats", request, pb.GetStatsResponse, timeout
        )

    async def list_entries(
        self,
        *,
        scope: pb.CacheScope.ValueType = pb.CACHE_SCOPE_USER,
        session_id: str = "",
        page_size: int = 0,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.CacheEntry]:
        """Yield all entries of a scope, newest first, page by page."""
        request = pb.ListEntriesRequest(
            user_id=self._user(user_id), scope=scope, session_id=session_id, page_size=page_size
        )
        while True:
            page = await self._transport.unary(
                "CacheService/ListEntries", request, pb.ListEntriesResponse, timeout
            )
            for item in page.entries:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_entry(
        self, entry_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.CacheEntry:
        """Return an entry."""
        request = pb.GetEntryRequest(user_id=self._user(user_id), entry_id=entry_id)
        response = await self._transport.unary(
            "CacheService/GetEntry", request, pb.GetEntryResponse, timeout
        )
        return response.entry
