"""CacheService: check, call the domain, convert."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from google.protobuf.descriptor import ServiceDescriptor

from recollect.v1 import cache_pb2 as pb
from recollect_server.cache.maintenance import CacheMaintenance
from recollect_server.cache.model import Verdict
from recollect_server.cache.service import AnswerCache
from recollect_server.errors import InvalidArgument
from recollect_server.rpc import paging
from recollect_server.rpc.call import Call
from recollect_server.rpc.convert import cache as convert
from recollect_server.rpc.convert.common import to_parts, to_prompt, to_usage


class CacheServicer:
    """Serves recollect.v1.CacheService.

    Args:
        clock: returns the present as an aware UTC datetime, for the age of entries.
    """

    service: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["CacheService"]

    def __init__(
        self,
        cache: AnswerCache,
        maintenance: CacheMaintenance,
        clock: Callable[[], datetime],
    ) -> None:
        self._cache = cache
        self._maintenance = maintenance
        self._clock = clock

    async def lookup(self, call: Call, request: pb.LookupRequest) -> pb.LookupResponse:
        """Serve Lookup."""
        scope = call.scope
        result = await self._cache.lookup(
            scope,
            request.session_id,
            to_prompt(request.prompt),
            cache_scope=convert.to_scope(request.scope),
            options=convert.to_lookup_options(request),
            newest_fact=await self._cache.newest_of(scope, request.recalled_fact_ids),
        )
        return convert.from_lookup(result, self._clock(), explain=request.explain)

    async def batch_lookup(
        self, call: Call, request: pb.BatchLookupRequest
    ) -> pb.BatchLookupResponse:
        """Serve BatchLookup."""
        for position, lookup in enumerate(request.lookups):
            if lookup.user_id != request.user_id:
                raise InvalidArgument(f"lookups[{position}].user_id", "must equal user_id")
        results = await asyncio.gather(*(self.lookup(call, lookup) for lookup in request.lookups))
        return pb.BatchLookupResponse(results=results)

    async def store(self, call: Call, request: pb.StoreRequest) -> pb.StoreResponse:
        """Serve Store."""
        entry = await self._cache.store(
            call.scope,
            request.session_id,
            to_prompt(request.prompt),
            to_parts(request.answer),
            to_usage(request.usage),
            cache_scope=convert.to_scope(request.scope),
            options=convert.to_options(request),
        )
        return pb.StoreResponse(entry=convert.from_entry(entry))

    async def get_entry(self, call: Call, request: pb.GetEntryRequest) -> pb.GetEntryResponse:
        """Serve GetEntry."""
        entry = await self._cache.get_entry(call.scope, request.entry_id)
        return pb.GetEntryResponse(entry=convert.from_entry(entry))

    async def invalidate(self, call: Call, request: pb.InvalidateRequest) -> pb.InvalidateResponse:
        """Serve Invalidate."""
        count = await self._maintenance.invalidate(
            call.scope,
            convert.to_doomed(request),
            dry_run=request.dry_run,
            everyones=not call.principal.user_id,
        )
        return pb.InvalidateResponse(count=count)

    async def report_feedback(
        self, call: Call, request: pb.ReportFeedbackRequest
    ) -> pb.ReportFeedbackResponse:
        """Serve ReportFeedback."""
        await self._maintenance.report(
            call.scope, request.entry_id, to_prompt(request.prompt), Verdict(request.verdict)
        )
        return pb.ReportFeedbackResponse()

    async def get_stats(self, call: Call, request: pb.GetStatsRequest) -> pb.GetStatsResponse:
        """Serve GetStats."""
        cache_scope = convert.to_scope(request.scope)
        stats = await self._maintenance.stats(call.scope, cache_scope, request.session_id)
        return convert.from_stats(stats)

    async def list_entries(
        self, call: Call, request: pb.ListEntriesRequest
    ) -> pb.ListEntriesResponse:
        """Serve ListEntries."""
        cache_scope = convert.to_scope(request.scope)
        scope, session_id = call.scope, request.session_id
        binding = "ListEntries", scope.tenant, scope.user_id, cache_scope.name, session_id
        entries, cursor = await self._maintenance.list_entries(
            scope,
            cache_scope,
            session_id,
            limit=paging.page_size(request.page_size),
            after=paging.decode(binding, request.page_token),
        )
        return pb.ListEntriesResponse(
            entries=[convert.from_entry(entry) for entry in entries],
            next_page_token=paging.encode(binding, cursor) if cursor else "",
        )
