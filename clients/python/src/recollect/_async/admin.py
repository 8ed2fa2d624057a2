"""AdminService."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta

from recollect._async.transport import AsyncTransport
from recollect._messages import duration, new_request_id, timestamp
from recollect.v1 import admin_pb2 as pb


class AsyncAdmin:
    """Administration of a tenant. Every method takes `timeout` in seconds (default: the
    client's), and raises `recollect.errors`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def erase_user(
        self, user_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> pb.EraseUserResponse:
        """Erase a user everywhere and return the receipt.

        If it is not `complete` a second before the timeout, it goes on by itself: call again, with
        the same `request_id` or none, to follow it.
        """
        request = pb.EraseUserRequest(user_id=user_id, request_id=request_id or new_request_id())
        return await self._transport.unary(
            "AdminService/EraseUser", request, pb.EraseUserResponse, timeout
        )

    async def export_user(
        self, user_id: str, *, include_vectors: bool = False, timeout: float | None = None
    ) -> AsyncIterator[str]:
        """Yield everything kept of a user, a JSON object each."""
        request = pb.ExportUserRequest(user_id=user_id, include_vectors=include_vectors)
        records = self._transport.stream(
            "AdminService/ExportUser", request, pb.ExportUserResponse, timeout
        )
        async for record in records:
            yield record.record_json

    async def import_user(
        self, user_id: str, records: Iterable[str], *, timeout: float | None = None
    ) -> int:
        """Store what `export_user` yielded, for a user without data; return the number of records.

        Raises:
            AlreadyExists: USER_EXISTS.
        """

        async def requests() -> AsyncIterator[pb.ImportUserRequest]:
            for record in records:
                yield pb.ImportUserRequest(user_id=user_id, record_json=record)

        response = await self._transport.upload(
            "AdminService/ImportUser", requests(), pb.ImportUserResponse, timeout
        )
        return response.records

    async def list_audit_events(
        self,
        *,
        user_id: str = "",
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.AuditEvent]:
        """Yield the tenant's audit events, newest first, page by page."""
        request = pb.ListAuditEventsRequest(
            user_id=user_id,
            start_time=timestamp(start_time),
            end_time=timestamp(end_time),
            page_size=page_size,
        )
        while True:
            page = await self._transport.unary(
                "AdminService/ListAuditEvents", request, pb.ListAuditEventsResponse, timeout
            )
            for item in page.events:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def create_api_key(
        self,
        name: str = "",
        role: pb.KeyRole.ValueType = pb.KEY_ROLE_UNSPECIFIED,
        *,
        service_roles: Mapping[str, pb.KeyRole.ValueType] | None = None,
        user_id: str = "",
        expire_time: datetime | None = None,
        replaces: str = "",
        overlap: timedelta | float | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.CreateApiKeyResponse:
        """Make an API key; its token is in the response and nowhere else.

        Args:
            service_roles: roles on `memory`, `cache`, `chat` and `admin` that differ from `role`.
            replaces: id of a key whose name, user and roles the new one takes, so give none of
                them; that one expires after the overlap.
            overlap: seconds or a timedelta; the server's default is 24 hours.
        """
        request = pb.CreateApiKeyRequest(
            name=name,
            role=role,
            service_roles=service_roles,
            user_id=user_id,
            expire_time=timestamp(expire_time),
            replaces=replaces,
            overlap=duration(overlap),
            request_id=request_id or new_request_id(),
        )
        return await self._transport.unary(
            "AdminService/CreateApiKey", request, pb.CreateApiKeyResponse, timeout
        )

    async def list_api_keys(
        self, *, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[pb.ApiKey]:
        """Yield the tenant's API keys, newest first, page by page."""
        request = pb.ListApiKeysRequest(page_size=page_size)
        while True:
            page = await self._transport.unary(
                "AdminService/ListApiKeys", request, pb.ListApiKeysResponse, timeout
            )
            for item in page.api_keys:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def revoke_api_key(self, key_id: str, *, timeout: float | None = None) -> pb.ApiKey:
        """Revoke an API key at once."""
        request = pb.RevokeApiKeyRequest(key_id=key_id)
        response = await self._transport.unary(
            "AdminService/RevokeApiKey", request, pb.RevokeApiKeyResponse, timeout
        )
        return response.api_key

    async def reindex(
        self, *, target: str = "", user_id: str = "", timeout: float | None = None
    ) -> str:
        """Build an index anew, in the background; return the job's id."""
        request = pb.ReindexRequest(target=target, user_id=user_id)
        response = await self._transport.unary(
            "AdminService/Reindex", request, pb.ReindexResponse, timeout
        )
        return response.job_id

    async def list_jobs(
        self,
        *,
        state: pb.JobState.ValueType = pb.JOB_STATE_UNSPECIFIED,
        user_id: str = "",
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.Job]:
        """Yield background jobs, or those for a user, dead letters first, page by page."""
        request = pb.ListJobsRequest(state=state, user_id=user_id, page_size=page_size)
        while True:
            page = await self._transport.unary(
                "AdminService/ListJobs", request, pb.ListJobsResponse, timeout
            )
            for item in page.jobs:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def retry_job(
        self, job_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> pb.Job:
        """Make a job due now that does not run, a dead letter too."""
        request = pb.RetryJobRequest(job_id=job_id, request_id=request_id or new_request_id())
        response = await self._transport.unary(
            "AdminService/RetryJob", request, pb.RetryJobResponse, timeout
        )
        return response.job

    async def get_server_info(self, *, timeout: float | None = None) -> pb.GetServerInfoResponse:
        """Return what the server is, what it uses, and who the caller is to it."""
        request = pb.GetServerInfoRequest()
        return await self._transport.unary(
            "AdminService/GetServerInfo", request, pb.GetServerInfoResponse, timeout
        )

    async def get_usage(
        self, user_id: str = "", *, timeout: float | None = None
    ) -> list[pb.LimitUsage]:
        """Return what a user, by default the whole tenant, uses of each limit."""
        request = pb.GetUsageRequest(user_id=user_id)
        response = await self._transport.unary(
            "AdminService/GetUsage", request, pb.GetUsageResponse, timeout
        )
        return list(response.limits)
