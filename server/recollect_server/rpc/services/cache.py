"""CacheService: check, call the domain, convert."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from google.protobuf.descriptor import ServiceDescriptor

from recollect.v1 import cache_pb2 as pb
from recollect_server.cache.service import AnswerCache
from recollect_server.errors import InvalidArgument, Unimplemented
from recollect_server.rpc.call import Call
from recollect_server.rpc.convert import cache as convert
from recollect_server.rpc.convert.common import to_parts, to_prompt, to_usage
from recollect_server.scope import Scope


class CacheServicer:
    """Serves recollect.v1.CacheService.

    Args:
        clock: returns the present as an aware UTC datetime, for the age of entries.
    """

    service: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["CacheService"]

    def __init__(self, cache: AnswerCache, clock: Callable[[], datetime]) -> None:
        self._cache = cache
        self._clock = clock

    async def lookup(self, call: Call, request: pb.LookupRequest) -> pb.LookupResponse:
        """Serve Lookup."""
        return await self._lookup(call.scope, request)

    async def batch_lookup(
        self, call: Call, request: pb.BatchLookupRequest
    ) -> pb.BatchLookupResponse:
        """Serve BatchLookup."""
        for position, lookup in enumerate(request.lookups):
            if lookup.user_id != request.user_id:
                raise InvalidArgument(f"lookups[{position}].user_id", "must equal user_id")
        results = await asyncio.gather(
            *(self._lookup(call.scope, lookup) for lookup in request.lookups)
        )
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

    async def _lookup(self, scope: Scope, request: pb.LookupRequest) -> pb.LookupResponse:
        _refuse_semantic(request)
        result = await self._cache.lookup(
            scope,
            request.session_id,
            to_prompt(request.prompt),
            cache_scope=convert.to_scope(request.scope),
            newest_fact=await self._cache.newest_of(scope, request.recalled_fact_ids),
        )
        return convert.from_lookup(result, self._clock())


def _refuse_semantic(request: pb.LookupRequest) -> None:
    """Refuse what only the semantic tier could serve, instead of passing over it in silence."""
    if request.any_model:
        raise Unimplemented("any_model")
    if request.tiers and pb.CACHE_TIER_EXACT not in request.tiers:
        raise Unimplemented("tier SEMANTIC")
    if request.strategy == pb.SEMANTIC_STRATEGY_CONTEXT_WINDOW:
        raise Unimplemented("strategy CONTEXT_WINDOW")
