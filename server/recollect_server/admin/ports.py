"""What administration needs from the outside."""

from datetime import datetime
from typing import Protocol

from recollect_server.admin.model import ApiKey


class ApiKeyStore(Protocol):
    """API keys, durable when a call returns. Raises `Unavailable` when the store is down."""

    async def add_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a new key."""

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
