"""What administration needs from the outside."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from recollect_server.admin.model import ApiKey, JobRecord, JobState
from recollect_server.scope import RequestKey


class ApiKeyStore(Protocol):
    """API keys, durable when a call returns. Raises `Unavailable` when the store is down."""

    async def add_key(
        self,
        key: ApiKey,
        secret_hash: bytes,
        request: RequestKey | None = None,
        replaces: tuple[str, datetime] | None = None,
    ) -> ApiKey:
        """Store a new key, or give the key that the request made before this secret instead.

        Args:
            replaces: another key's id, and when it expires if it does not before.

        Raises:
            FailedPrecondition: REQUEST_ID_REUSED.
            NotFound: API_KEY_NOT_FOUND, the key that the request made is gone with its user.
        """

    async def find_key(self, key_id: str) -> tuple[ApiKey, bytes] | None:
        """Return the key and its secret's hash, whatever its tenant, or None."""

    async def list_keys(
        self, tenant: str, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[ApiKey, ...]:
        """Return the tenant's keys, newest first, after (create_time, key_id)."""

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey:
        """Revoke now; keep the first revoke_time when repeated.

        Raises:
            NotFound: API_KEY_NOT_FOUND.
        """

    async def used(self, times: Mapping[str, datetime]) -> None:
        """Store when keys were last accepted, by their id; an older time changes nothing."""


class JobStore(Protocol):
    """Background jobs of a tenant. Raises `Unavailable` when the store is down."""

    async def list_jobs(
        self,
        tenant: str,
        *,
        state: JobState | None,
        user_id: str = "",
        limit: int,
        after: tuple[int, str] | None,
    ) -> tuple[JobRecord, ...]:
        """Return jobs, dead letters first, then running ones, after (rank, job_id).

        Args:
            user_id: only jobs for this user; "" for all.
            after: the rank is 0 for a dead, 1 for a running and 2 for a due job.
        """

    async def retry_job(
        self, tenant: str, job_id: str, request: RequestKey | None = None
    ) -> JobRecord:
        """Make a job due now that does not run, a dead letter too.

        Raises:
            NotFound: JOB_NOT_FOUND.
            FailedPrecondition: REQUEST_ID_REUSED.
        """
