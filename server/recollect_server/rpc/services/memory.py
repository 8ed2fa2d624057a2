"""MemoryService: check, call the domain, convert."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from google.protobuf.descriptor import ServiceDescriptor

from recollect.v1 import memory_pb2 as pb
from recollect_server.errors import NotFound, Reason
from recollect_server.memory.context_builder import ContextBuilder
from recollect_server.memory.extraction import Extraction
from recollect_server.memory.model import Retention
from recollect_server.memory.recalling import Recaller
from recollect_server.memory.service import Memory
from recollect_server.memory.summaries import Compactor
from recollect_server.memory.watch import Watch
from recollect_server.rpc.call import Call
from recollect_server.rpc.convert import memory as convert
from recollect_server.rpc.convert.common import to_time
from recollect_server.rpc.convert.watch import from_change, from_position, to_position
from recollect_server.rpc.idempotency import request_key
from recollect_server.rpc.paging import after_time, decode, encode, page_size, time_cursor

DEFAULT_TOP_K = 5
LAST_SEQUENCE = 2**63 - 1


class MemoryServicer:
    """Serves recollect.v1.MemoryService."""

    service: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["MemoryService"]

    def __init__(
        self,
        memory: Memory,
        recaller: Recaller,
        contexts: ContextBuilder,
        compactor: Compactor,
        extraction: Extraction,
        watch: Watch,
    ) -> None:
        self._memory = memory
        self._recaller = recaller
        self._contexts = contexts
        self._compactor = compactor
        self._extraction = extraction
        self._watch = watch

    async def create_session(
        self, call: Call, request: pb.CreateSessionRequest
    ) -> pb.CreateSessionResponse:
        """Serve CreateSession."""
        session = await self._memory.create_session(
            call.scope, convert.to_new_session(request), request_key("CreateSession", request)
        )
        return pb.CreateSessionResponse(session=convert.from_session(session, request.user_id))

    async def get_session(self, call: Call, request: pb.GetSessionRequest) -> pb.GetSessionResponse:
        """Serve GetSession."""
        session = await self._memory.get_session(call.scope, request.session_id)
        return pb.GetSessionResponse(session=convert.from_session(session, request.user_id))

    async def list_sessions(
        self, call: Call, request: pb.ListSessionsRequest
    ) -> pb.ListSessionsResponse:
        """Serve ListSessions."""
        binding = ("ListSessions", request.user_id)
        limit = page_size(request.page_size)
        after = after_time(decode(binding, request.page_token))
        found = await self._memory.list_sessions(call.scope, limit=limit + 1, after=after)
        response = pb.ListSessionsResponse(
            sessions=[convert.from_session(s, request.user_id) for s in found[:limit]]
        )
        if len(found) > limit:
            last = found[limit - 1]
            cursor = time_cursor(last.update_time, last.session_id)
            response.next_page_token = encode(binding, cursor)
        return response

    async def update_session(
        self, call: Call, request: pb.UpdateSessionRequest
    ) -> pb.UpdateSessionResponse:
        """Serve UpdateSession."""
        session = await self._memory.update_session(
            call.scope,
            request.session_id,
            convert.to_session_changes(request),
            request.expected_revision if request.HasField("expected_revision") else None,
            request_key("UpdateSession", request),
        )
        return pb.UpdateSessionResponse(session=convert.from_session(session, request.user_id))

    async def clear_session(
        self, call: Call, request: pb.ClearSessionRequest
    ) -> pb.ClearSessionResponse:
        """Serve ClearSession."""
        key = request_key("ClearSession", request)
        session = await self._memory.clear_session(call.scope, request.session_id, key)
        return pb.ClearSessionResponse(session=convert.from_session(session, request.user_id))

    async def delete_session(
        self, call: Call, request: pb.DeleteSessionRequest
    ) -> pb.DeleteSessionResponse:
        """Serve DeleteSession."""
        key = request_key("DeleteSession", request)
        await self._memory.delete_session(call.scope, request.session_id, key)
        return pb.DeleteSessionResponse()

    async def append_messages(
        self, call: Call, request: pb.AppendMessagesRequest
    ) -> pb.AppendMessagesResponse:
        """Serve AppendMessages."""
        appended = await self._memory.append_messages(
            call.scope,
            request.session_id,
            [convert.to_new_message(message) for message in request.messages],
            request=request_key("AppendMessages", request),
            expected_revision=(
                request.expected_revision if request.HasField("expected_revision") else None
            ),
        )
        response = pb.AppendMessagesResponse(
            session_revision=appended.session_revision, user_revision=appended.user_revision
        )
        convert.add_messages(response.messages, appended.messages)
        return response

    async def list_messages(
        self, call: Call, request: pb.ListMessagesRequest
    ) -> pb.ListMessagesResponse:
        """Serve ListMessages."""
        query = pb.ListMessagesRequest()
        query.CopyFrom(request)
        query.ClearField("page_token")
        query.ClearField("page_size")
        binding = ("ListMessages", query.SerializeToString(deterministic=True).hex())
        newest_first = request.order == pb.LIST_ORDER_NEWEST_FIRST
        cursor = decode(binding, request.page_token)
        bound = _first_bound(request, newest_first=newest_first) if cursor is None else cursor[0]
        limit = page_size(request.page_size)
        found = await self._memory.list_messages(
            call.scope,
            request.session_id,
            limit=limit + 1,
            after=None if newest_first else bound,
            before=bound if newest_first else None,
            since=to_time(request.start_time) if request.HasField("start_time") else None,
            newest_first=newest_first,
        )
        response = pb.ListMessagesResponse()
        convert.add_messages(response.messages, found[:limit])
        if len(found) > limit:
            response.next_page_token = encode(binding, (found[limit - 1].sequence, ""))
        return response

    async def get_context(self, call: Call, request: pb.GetContextRequest) -> pb.GetContextResponse:
        """Serve GetContext."""
        context = await self._contexts.build(
            call.scope,
            request.session_id,
            request.query,
            convert.to_context_options(request.options),
            call.caller,
        )
        return convert.from_context(context)

    async def remember(self, call: Call, request: pb.RememberRequest) -> pb.RememberResponse:
        """Serve Remember."""
        remembered = await self._memory.remember(
            call.scope,
            [convert.to_new_fact(fact) for fact in request.facts],
            request_key("Remember", request),
            reconcile=request.reconcile,
        )
        return convert.from_remembered(remembered, request.user_id)

    async def recall(self, call: Call, request: pb.RecallRequest) -> pb.RecallResponse:
        """Serve Recall."""
        recalled = await self._recaller.recall(
            call.scope,
            request.query,
            kinds=convert.to_kinds(request),
            filter=convert.to_filter(request.filter),
            limit=request.top_k or DEFAULT_TOP_K,
            min_revision=request.min_revision,
            deadline=call.deadline,
        )
        return convert.from_recalled(recalled, request.user_id, explain=request.explain)

    async def get_fact(self, call: Call, request: pb.GetFactRequest) -> pb.GetFactResponse:
        """Serve GetFact."""
        fact = await self._memory.get_fact(call.scope, request.fact_id)
        return pb.GetFactResponse(fact=convert.from_fact(fact, request.user_id))

    async def list_facts(self, call: Call, request: pb.ListFactsRequest) -> pb.ListFactsResponse:
        """Serve ListFacts."""
        kinds = convert.to_fact_kinds(request.kinds)
        wanted = ",".join(str(int(kind)) for kind in sorted(kinds))
        binding = ("ListFacts", request.user_id, str(request.include_closed), wanted)
        limit = page_size(request.page_size)
        found = await self._memory.list_facts(
            call.scope,
            limit=limit + 1,
            after=after_time(decode(binding, request.page_token)),
            valid_only=not request.include_closed,
            kinds=kinds,
        )
        response = pb.ListFactsResponse(
            facts=[convert.from_fact(fact, request.user_id) for fact in found[:limit]]
        )
        if len(found) > limit:
            last = found[limit - 1]
            response.next_page_token = encode(binding, time_cursor(last.recorded_at, last.fact_id))
        return response

    async def update_fact(self, call: Call, request: pb.UpdateFactRequest) -> pb.UpdateFactResponse:
        """Serve UpdateFact."""
        fact = await self._memory.update_fact(
            call.scope,
            request.fact_id,
            convert.to_fact_changes(request),
            request.expected_version if request.HasField("expected_version") else None,
            request_key("UpdateFact", request),
        )
        return pb.UpdateFactResponse(fact=convert.from_fact(fact, request.user_id))

    async def forget_fact(self, call: Call, request: pb.ForgetFactRequest) -> pb.ForgetFactResponse:
        """Serve ForgetFact."""
        key = request_key("ForgetFact", request)
        await self._memory.forget_fact(call.scope, request.fact_id, key)
        return pb.ForgetFactResponse()

    async def get_fact_history(
        self, call: Call, request: pb.GetFactHistoryRequest
    ) -> pb.GetFactHistoryResponse:
        """Serve GetFactHistory."""
        versions = await self._memory.fact_history(call.scope, request.fact_id)
        return pb.GetFactHistoryResponse(
            versions=[convert.from_fact(version, request.user_id) for version in versions]
        )

    async def extract_facts(
        self, call: Call, request: pb.ExtractFactsRequest
    ) -> pb.ExtractFactsResponse:
        """Serve ExtractFacts."""
        results, through = await self._extraction.extract(
            call.scope, request.session_id, dry_run=request.dry_run
        )
        self._memory.changed(call.scope)
        return convert.from_extracted(results, through, request.user_id)

    async def compact_session(
        self, call: Call, request: pb.CompactSessionRequest
    ) -> pb.CompactSessionResponse:
        """Serve CompactSession."""
        session = await self._compactor.compact(call.scope, request.session_id)
        self._memory.changed(call.scope)
        return pb.CompactSessionResponse(session=convert.from_session(session, request.user_id))

    async def get_episode(self, call: Call, request: pb.GetEpisodeRequest) -> pb.GetEpisodeResponse:
        """Serve GetEpisode."""
        episode = await self._memory.get_episode(call.scope, request.episode_id)
        return pb.GetEpisodeResponse(episode=convert.from_episode(episode, request.user_id))

    async def list_episodes(
        self, call: Call, request: pb.ListEpisodesRequest
    ) -> pb.ListEpisodesResponse:
        """Serve ListEpisodes."""
        binding = ("ListEpisodes", request.user_id, request.session_id)
        limit = page_size(request.page_size)
        found = await self._memory.list_episodes(
            call.scope,
            limit=limit + 1,
            after=after_time(decode(binding, request.page_token)),
            session_id=request.session_id,
        )
        response = pb.ListEpisodesResponse(
            episodes=[convert.from_episode(e, request.user_id) for e in found[:limit]]
        )
        if len(found) > limit:
            last = found[limit - 1]
            response.next_page_token = encode(binding, time_cursor(last.end_time, last.episode_id))
        return response

    async def watch(self, call: Call, request: pb.WatchRequest) -> AsyncIterator[pb.WatchResponse]:
        """Serve Watch."""
        if request.session_id and not request.resume_token:
            session = await self._memory.get_session(call.scope, request.session_id)
            if session.retention is Retention.EPHEMERAL:
                raise NotFound(Reason.SESSION_NOT_FOUND, "durable session", request.session_id)
        position = to_position(request)
        if position is None:
            position = await self._watch.now(call.scope)
            yield pb.WatchResponse(resume_token=from_position(position, request))
        else:
            # So that the reader knows of the connection before there is a change.
            await call.context.send_initial_metadata(())
        changes = self._watch.stream(call.scope, request.session_id, position)
        async with aclosing(changes):
            async for change in changes:
                yield from_change(change, request)


def _first_bound(request: pb.ListMessagesRequest, *, newest_first: bool) -> int | None:
    """Return the exclusive bound where the first page starts."""
    if not request.from_sequence:
        return None
    if newest_first:
        return min(request.from_sequence, LAST_SEQUENCE - 1) + 1
    return request.from_sequence - 1
