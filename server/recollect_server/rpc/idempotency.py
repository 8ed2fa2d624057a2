"""The identity of an idempotent call."""

import hashlib
from typing import Any

from recollect_server.ids import uuid7
from recollect_server.scope import RequestKey


def request_key(method: str, request: Any) -> RequestKey | None:
    """Return the key of a request with a `request_id` field, None if the field is empty.

    Args:
        method: the RPC's bare name.
        request: a protobuf message; it is not changed.
    """
    if not request.request_id:
        return None
    return RequestKey(method, request.request_id.lower(), _digest(request))


def request_key_or_new(method: str, request: Any) -> RequestKey:
    """As `request_key`, with an id made here for an empty field."""
    return request_key(method, request) or RequestKey(method, uuid7(), _digest(request))


def _digest(request: Any) -> bytes:
    request_id = request.request_id
    request.ClearField("request_id")
    data = request.SerializeToString(deterministic=True)
    request.request_id = request_id
    return hashlib.sha256(data).digest()
