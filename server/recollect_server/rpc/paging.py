"""Page tokens: where the next page starts, bound to the request that made them."""

import base64
import binascii
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from recollect_server.errors import InvalidArgument, Reason

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_MARK_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Cursor = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


def page_size(asked: int) -> int:
    """Return the number of items of a page: the default for 0, at most the maximum."""
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _mark(binding: tuple[str, ...]) -> bytes:
    digest = hashlib.blake2b(digest_size=_MARK_BYTES)
    for part in binding:
        data = part.encode()
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.digest()


def encode(binding: tuple[str, ...], cursor: tuple[int, str]) -> str:
    """Return a token for the page after `cursor`.

    Args:
        binding: the method and all fields that must not change between pages.
    """
    data = _mark(binding) + msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(
    binding: tuple[str, ...], token: str, field: str = "page_token"
) -> tuple[int, str] | None:
    """Return the cursor of a token, None for an empty one.

    Args:
        field: the request's field that holds the token.

    Raises:
        InvalidArgument: INVALID_PAGE_TOKEN.
    """
    if not token:
        return None
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        if data[:_MARK_BYTES] == _mark(binding):
            return msgspec.msgpack.decode(data[_MARK_BYTES:], type=tuple[Cursor, str])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        pass
    raise InvalidArgument(
        field,
        "must be a token of a response to this method with the same other fields",
        Reason.INVALID_PAGE_TOKEN,
    )


def time_cursor(time: datetime, name: str) -> tuple[int, str]:
    """Return the cursor of an item in a list ordered by time, then name."""
    return (time - _EPOCH) // _MICROSECOND, name


def after_time(cursor: tuple[int, str] | None) -> tuple[datetime, str] | None:
    """Return what a store takes as `after`."""
    if cursor is None:
        return None
    microseconds, name = cursor
    try:
        return _EPOCH + microseconds * _MICROSECOND, name
    except OverflowError:
        raise InvalidArgument("page_token", "holds no time", Reason.INVALID_PAGE_TOKEN) from None
