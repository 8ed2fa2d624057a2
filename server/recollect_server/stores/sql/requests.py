"""Idempotent calls: the result of a request is kept with its id, in the request's transaction."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from recollect_server.errors import FailedPrecondition, Reason
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import pack, unpack
from recollect_server.stores.sql.database import RunAgain, Transaction

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

    Repeats are rare, so the first run does not look for one: it finds out at the end.

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
    if not tx.first_run:
        kept = _find(tx, key, request, now)
        if kept is not None:
            return from_plain(unpack(kept))
    result = run()
    stored = tx.count(
        "INSERT INTO requests "
        "(tenant, user_id, method, request_id, digest, result, create_time) VALUES "
        "(:tenant, :user_id, :method, :request_id, :digest, :result, :now) "
        "ON CONFLICT (tenant, user_id, method, request_id) DO NOTHING",
        key | {"digest": request.digest, "result": pack(to_plain(result)), "now": now},
    )
    if not stored:
        raise RunAgain
    return result


def once(
    tx: Transaction,
    scope: Scope,
    request: RequestKey | None,
    now: int,
    run: Callable[[Transaction], None],
) -> None:
    """Run a write without a result once; see `idempotent`."""
    idempotent(
        tx,
        scope,
        request,
        now,
        run=lambda: run(tx),
        to_plain=lambda _: None,
        from_plain=lambda _: None,
    )


def _find(tx: Transaction, key: Mapping[str, str], request: RequestKey, now: int) -> bytes | None:
    """Return the result of a request, None if it is new or was kept for long enough."""
    rows = tx.execute(f"SELECT digest, result, create_time FROM requests {_WHERE}", key)
    if not rows:
        return None
    digest, result, create_time = rows[0]
    if create_time >= now - KEPT_MICROSECONDS:
        check_digest(digest, request)
        kept: bytes = result
        return kept
    tx.execute(f"DELETE FROM requests {_WHERE}", key)
    return None
