"""Idempotent calls: the result of a request is kept with its id, in the request's transaction."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from recollect_server.errors import FailedPrecondition, Reason
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import pack, unpack
from recollect_server.stores.sql.database import Transaction

T = TypeVar("T")

KEPT = timedelta(hours=24)
KEPT_MICROSECONDS = KEPT // timedelta(microseconds=1)

_WHERE = (
    "WHERE tenant = :tenant AND user_id = :user_id AND method = :method "
    "AND request_id = :request_id"
)


def check_digest(stored: bytes, request: RequestKey) -> None:
    """Refuse a request id that belongs to another request.

    Raises:
        FailedPrecondition: REQUEST_ID_REUSED.
    """
    if stored != request.digest:
        raise FailedPrecondition(
            Reason.REQUEST_ID_REUSED, "request_id: it belongs to another request"
        )


def idempotent(
    tx: Transaction,
    scope: Scope,
    request: RequestKey | None,
    now: int,
    *,
    run: Callable[[], T],
    to_plain: Callable[[T], Any],
    from_plain: Callable[[Any], T],
) -> T:
    """Run a write once: a repeat within 24 hours gets the first result.

    Args:
        now: microseconds since 1970.
        to_plain: makes of a result what msgpack can hold.
        from_plain: makes a result of that.
    """
    if request is None:
        return run()
    key = {
        "tenant": scope.tenant,
        "user_id": scope.user_id,
        "method": request.method,
        "request_id": request.request_id,
    }
    # The row comes first: a repeat that runs at the same time waits here for this one's end.
    claimed = tx.execute(
        "INSERT INTO requests "
        "(tenant, user_id, method, request_id, digest, result, create_time) VALUES "
        "(:tenant, :user_id, :method, :request_id, :digest, :nothing, :now) "
        "ON CONFLICT (tenant, user_id, method, request_id) DO UPDATE SET "
        "digest = excluded.digest, create_time = excluded.create_time "
        "WHERE requests.create_time < :kept_since RETURNING 1",
        key
        | {
            "digest": request.digest,
            "nothing": b"",
            "now": now,
            "kept_since": now - KEPT_MICROSECONDS,
        },
    )
    if not claimed:
        digest, kept = tx.execute(f"SELECT digest, result FROM requests {_WHERE}", key)[0]
        check_digest(digest, request)
        return from_plain(unpack(kept))
    result = run()
    tx.execute(
        f"UPDATE requests SET result = :result {_WHERE}", key | {"result": pack(to_plain(result))}
    )
    return result
