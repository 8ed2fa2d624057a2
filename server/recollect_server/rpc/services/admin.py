"""AdminService: check, call the domain, convert."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime

from google.protobuf.descriptor import ServiceDescriptor

from recollect.v1 import admin_pb2 as pb
from recollect_server.admin.erasing import Erasing
from recollect_server.admin.keys import OVERLAP, ApiKeys, CreatedKey
from recollect_server.admin.model import JobState
from recollect_server.admin.portability import Exporting, Importing
from recollect_server.admin.ports import JobStore
from recollect_server.admin.quotas import Quotas
from recollect_server.admin.server import ServerFacts
from recollect_server.errors import InvalidArgument, Unavailable
from recollect_server.memory.audit import AuditLog
from recollect_server.memory.reindexing import Reindexing
from recollect_server.rpc.call import Call
from recollect_server.rpc.convert.admin import (
    from_api_key,
    from_backlog,
    from_erasure,
    from_event,
    from_job,
    from_service_roles,
    from_usage,
    job_rank,
    to_grants,
)
from recollect_server.rpc.convert.common import to_time
from recollect_server.rpc.idempotency import request_key
from recollect_server.rpc.paging import after_time, decode, encode, page_size, time_cursor
from recollect_server.rpc.uploads import uploaded
from recollect_server.scope import Scope


class AdminServicer:
    """Serves recollect.v1.AdminService."""

    service: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["AdminService"]

    def __init__(
        self,
        keys: ApiKeys,
        jobs: JobStore,
        audit: AuditLog,
        facts: ServerFacts,
        reindexing: Reindexing,
        erasing: Erasing,
        exporting: Exporting,
        importing: Importing,
        quotas: Quotas,
    ) -> None:
        self._quotas = quotas
        self._exporting = exporting
        self._importing = importing
        self._erasing = erasing
        self._reindexing = reindexing
        self._keys = keys
        self._jobs = jobs
        self._audit = audit
        self._facts = facts

    async def erase_user(self, call: Call, request: pb.EraseUserRequest) -> pb.EraseUserResponse:
        """Serve EraseUser."""
        erasure = await self._erasing.erase(
            call.scope, request.request_id.lower(), call.caller, call.deadline
        )
        return from_erasure(erasure)

    async def export_user(
        self, call: Call, request: pb.ExportUserRequest
    ) -> AsyncIterator[pb.ExportUserResponse]:
        """Serve ExportUser."""
        records = self._exporting.export(call.scope, vectors=request.include_vectors)
        async with aclosing(records):
            async for record in records:
                yield pb.ExportUserResponse(record_json=record)

    async def import_user(
        self, call: Call, requests: AsyncIterator[pb.ImportUserRequest]
    ) -> pb.ImportUserResponse:
        """Serve ImportUser."""
        checked = uploaded(call, requests)
        first = await anext(checked, None)
        if first is None or not first.user_id:
            raise InvalidArgument("user_id", "must be set in the first message")
        scope = Scope(call.principal.tenant, first.user_id)

        async def records() -> AsyncIterator[str]:
            yield first.record_json
            async for request in checked:
                if request.user_id not in ("", first.user_id):
                    raise InvalidArgument("user_id", "must be empty or that of the first message")
                yield request.record_json

        count = await self._importing.import_(scope, records())
        return pb.ImportUserResponse(records=count)

    async def create_api_key(
        self, call: Call, request: pb.CreateApiKeyRequest
    ) -> pb.CreateApiKeyResponse:
        """Serve CreateApiKey."""
        created = await (self._rotated if request.replaces else self._created)(
            call.principal.tenant, request
        )
        return pb.CreateApiKeyResponse(api_key=from_api_key(created.key), token=created.token)

    async def _created(self, tenant: str, request: pb.CreateApiKeyRequest) -> CreatedKey:
        return await self._keys.create(
            tenant,
            name=request.name,
            user_id=request.user_id,
            grants=to_grants(request),
            expire_time=_expire_time(request),
            request=request_key("CreateApiKey", request),
        )

    async def _rotated(self, tenant: str, request: pb.CreateApiKeyRequest) -> CreatedKey:
        for name in ("name", "user_id", "role", "service_roles"):
            if getattr(request, name):
                raise InvalidArgument(name, "must be empty: the replaced key's is taken")
        return await self._keys.rotate(
            tenant,
            request.replaces,
            expire_time=_expire_time(request),
            overlap=request.overlap.ToTimedelta() or OVERLAP,
            request=request_key("CreateApiKey", request),
        )

    async def list_api_keys(
        self, call: Call, request: pb.ListApiKeysRequest
    ) -> pb.ListApiKeysResponse:
        """Serve ListApiKeys."""
        binding = ("ListApiKeys",)
        limit = page_size(request.page_size)
        found = await self._keys.list(
            call.principal.tenant,
            limit=limit + 1,
            after=after_time(decode(binding, request.page_token)),
        )
        response = pb.ListApiKeysResponse(api_keys=[from_api_key(k) for k in found[:limit]])
        if len(found) > limit:
            last = found[limit - 1]
            response.next_page_token = encode(binding, time_cursor(last.create_time, last.key_id))
        return response

    async def revoke_api_key(
        self, call: Call, request: pb.RevokeApiKeyRequest
    ) -> pb.RevokeApiKeyResponse:
        """Serve RevokeApiKey."""
        key = await self._keys.revoke(call.principal.tenant, request.key_id)
        return pb.RevokeApiKeyResponse(api_key=from_api_key(key))

    async def list_audit_events(
        self, call: Call, request: pb.ListAuditEventsRequest
    ) -> pb.ListAuditEventsResponse:
        """Serve ListAuditEvents."""
        times = [request.start_time, request.end_time]
        binding = (
            "ListAuditEvents",
            request.user_id,
            *(str(time.ToNanoseconds()) for time in times),
        )
        limit = page_size(request.page_size)
        found = await self._audit.list_events(
            call.principal.tenant,
            user_id=request.user_id,
            start=to_time(request.start_time) if request.HasField("start_time") else None,
            end=to_time(request.end_time) if request.HasField("end_time") else None,
            limit=limit + 1,
            after=after_time(decode(binding, request.page_token)),
        )
        response = pb.ListAuditEventsResponse(events=[from_event(e) for e in found[:limit]])
        if len(found) > limit:
            last = found[limit - 1]
            response.next_page_token = encode(binding, time_cursor(last.time, last.event_id))
        return response

    async def reindex(self, call: Call, request: pb.ReindexRequest) -> pb.ReindexResponse:
        """Serve Reindex."""
        scope = Scope(call.principal.tenant, request.user_id) if request.user_id else None
        job_id = await self._reindexing.reindex(request.target, scope)
        return pb.ReindexResponse(job_id=job_id)

    async def list_jobs(self, call: Call, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        """Serve ListJobs."""
        binding = ("ListJobs", str(request.state), request.user_id)
        limit = page_size(request.page_size)
        found = await self._jobs.list_jobs(
            call.principal.tenant,
            state=JobState(request.state) if request.state else None,
            user_id=request.user_id,
            limit=limit + 1,
            after=decode(binding, request.page_token),
        )
        response = pb.ListJobsResponse(jobs=[from_job(job) for job in found[:limit]])
        if len(found) > limit:
            last = found[limit - 1]
            response.next_page_token = encode(binding, (job_rank(last), last.job_id))
        return response

    async def retry_job(self, call: Call, request: pb.RetryJobRequest) -> pb.RetryJobResponse:
        """Serve RetryJob."""
        key = request_key("RetryJob", request)
        job = await self._jobs.retry_job(call.principal.tenant, request.job_id, key)
        return pb.RetryJobResponse(job=from_job(job))

    async def get_server_info(
        self, call: Call, request: pb.GetServerInfoRequest
    ) -> pb.GetServerInfoResponse:
        """Serve GetServerInfo."""
        facts = self._facts
        return pb.GetServerInfoResponse(
            version=facts.version,
            chat_provider=facts.chat_provider,
            chat_model=facts.chat_model,
            chat_notice=facts.chat_notice,
            embedding_model=facts.embedding_model,
            embedding_dimensions=facts.embedding_dimensions,
            stores=[
                pb.StoreInfo(name=s.name, kind=s.kind, available=s.available)
                for s in await facts.probe()
            ],
            authentication=facts.authentication,
            tenant=call.principal.tenant,
            user_id=call.principal.user_id,
            role=pb.KeyRole.ValueType(call.principal.grants.role),
            service_roles=from_service_roles(call.principal.grants),
            max_message_bytes=facts.max_message_bytes,
            max_request_bytes=facts.max_request_bytes,
            embedding_backlog=await self._backlog(call.principal.tenant),
        )

    async def get_usage(self, call: Call, request: pb.GetUsageRequest) -> pb.GetUsageResponse:
        """Serve GetUsage."""
        return from_usage(await self._quotas.usage(call.scope))

    async def _backlog(self, tenant: str) -> pb.EmbeddingBacklog | None:
        try:
            return from_backlog(await self._facts.backlog(tenant))
        except Unavailable:
            return None


def _expire_time(request: pb.CreateApiKeyRequest) -> datetime | None:
    return to_time(request.expire_time) if request.HasField("expire_time") else None
