"""API keys."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from recollect_server.admin.model import ApiKey, Grants, KeyRole
from recollect_server.errors import NotFound, Reason
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.requests import idempotent

_COLUMNS = (
    "key_id, tenant, name, user_id, role, service_roles, create_time, expire_time, revoke_time, "
    "last_use_time"
)


def _optional(microseconds: int | None) -> datetime | None:
    return from_microseconds(microseconds) if microseconds is not None else None


def _to_key(row: Row) -> ApiKey:
    return ApiKey(
        key_id=row[0],
        tenant=row[1],
        name=row[2],
        user_id=row[3],
        grants=Grants(KeyRole(row[4]), Grants.parse(row[5]).services),
        create_time=from_microseconds(row[6]),
        expire_time=_optional(row[7]),
        revoke_time=_optional(row[8]),
        last_use_time=_optional(row[9]),
    )


def _not_found(key_id: str) -> NotFound:
    return NotFound(Reason.API_KEY_NOT_FOUND, "API key", key_id)


class SqlApiKeyStore:
    """Implements `admin.ports.ApiKeyStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def add_key(
        self,
        key: ApiKey,
        secret_hash: bytes,
        request: RequestKey | None = None,
        replaces: tuple[str, datetime] | None = None,
    ) -> ApiKey:
        """See `ApiKeyStore`."""
        params: dict[str, Any] = {
            "key_id": key.key_id,
            "tenant": key.tenant,
            "name": key.name,
            "user_id": key.user_id,
            "role": int(key.grants.role),
            "service_roles": str(Grants(services=key.grants.services)),
            "secret_hash": secret_hash,
            "create_time": to_microseconds(key.create_time),
            "expire_time": (
                to_microseconds(key.expire_time) if key.expire_time is not None else None
            ),
        }

        def add(tx: Transaction) -> ApiKey:
            tx.execute(
                "INSERT INTO api_keys (key_id, tenant, name, user_id, role, service_roles, "
                "secret_hash, create_time, expire_time) VALUES (:key_id, :tenant, :name, "
                ":user_id, :role, :service_roles, :secret_hash, :create_time, :expire_time)",
                params,
            )
            if replaces is not None:
                tx.execute(
                    "UPDATE api_keys SET expire_time = :time WHERE tenant = :tenant "
                    "AND key_id = :key_id AND (expire_time IS NULL OR expire_time > :time)",
                    {
                        "tenant": key.tenant,
                        "key_id": replaces[0],
                        "time": to_microseconds(replaces[1]),
                    },
                )
            return key

        def renew(tx: Transaction, key_id: str) -> ApiKey:
            rows = tx.execute(
                "UPDATE api_keys SET secret_hash = :secret_hash WHERE tenant = :tenant "
                f"AND key_id = :key_id RETURNING {_COLUMNS}",
                params | {"key_id": key_id},
            )
            if not rows:  # its user was erased since
                raise _not_found(key_id)
            return _to_key(rows[0])

        def work(tx: Transaction) -> ApiKey:
            return idempotent(
                tx,
                Scope(key.tenant, ""),
                request,
                params["create_time"],
                run=lambda: add(tx),
                to_plain=lambda added: added.key_id,
                from_plain=lambda key_id: renew(tx, key_id),
            )

        return await self._database.write(work)

    async def find_key(self, key_id: str) -> tuple[ApiKey, bytes] | None:
        """See `ApiKeyStore`."""
        rows = await self._database.read(
            lambda tx: tx.execute(
                f"SELECT {_COLUMNS}, secret_hash FROM api_keys WHERE key_id = :key_id",
                {"key_id": key_id},
            )
        )
        return (_to_key(rows[0]), bytes(rows[0][10])) if rows else None

    async def list_keys(
        self, tenant: str, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[ApiKey, ...]:
        """See `ApiKeyStore`."""
        clause, params = "", {"tenant": tenant, "limit": limit}
        if after is not None:
            clause = "AND (create_time, key_id) < (:time, :name) "
            params |= {"time": to_microseconds(after[0]), "name": after[1]}
        rows = await self._database.read(
            lambda tx: tx.execute(
                f"SELECT {_COLUMNS} FROM api_keys WHERE tenant = :tenant {clause}"
                "ORDER BY create_time DESC, key_id DESC LIMIT :limit",
                params,
            )
        )
        return tuple(_to_key(row) for row in rows)

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey:
        """See `ApiKeyStore`."""
        params = {
            "tenant": tenant,
            "key_id": key_id,
            "now": to_microseconds(self._clock()),
        }

        def work(tx: Transaction) -> ApiKey:
            rows = tx.execute(
                "UPDATE api_keys SET revoke_time = COALESCE(revoke_time, :now) "
                f"WHERE tenant = :tenant AND key_id = :key_id RETURNING {_COLUMNS}",
                params,
            )
            if not rows:
                raise _not_found(key_id)
            return _to_key(rows[0])

        return await self._database.write(work)

    async def used(self, times: Mapping[str, datetime]) -> None:
        """See `ApiKeyStore`."""
        params = [
            {"key_id": key_id, "time": to_microseconds(time)}
            for key_id, time in sorted(times.items())
        ]
        await self._database.write(
            lambda tx: tx.execute_many(
                "UPDATE api_keys SET last_use_time = :time WHERE key_id = :key_id "
                "AND (last_use_time IS NULL OR last_use_time < :time)",
                params,
            )
        )
