"""Recent windows of sessions in Valkey or Redis: one value per session, read by one GET."""

import math

import structlog

from recollect_server.memory.ports import Window
from recollect_server.scope import Scope
from recollect_server.stores.codec import (
    CorruptDataError,
    decode_messages,
    encode_messages,
    from_microseconds,
    to_microseconds,
)
from recollect_server.stores.valkey.connect import Client, Script
from recollect_server.stores.valkey.keys import window_key

log = structlog.get_logger("recollect.valkey")

# A value is VERSION, the session's time in microseconds and the revision, 8 bytes big-endian each,
# and the encoded messages.
VERSION = b"\x02"
HEADER_BYTES = 17

# The script reads no more than the header of what is there. struct is bundled with the server's
# Lua; its numbers are doubles, exact up to 2^53, which is the year 2255 in microseconds.
PUT_UNLESS_NEWER = Script("""
local header = redis.call('GETRANGE', KEYS[1], 0, 16)
if #header == 17 and string.byte(header) == string.byte(ARGV[1]) then
  local time, revision = struct.unpack('>I8I8', header, 2)
  local new_time, new_revision = struct.unpack('>I8I8', ARGV[1], 2)
  if time > new_time or (time == new_time and revision > new_revision) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")


class ValkeyWindowCache:
    """`WindowCache` on one key per session."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, scope: Scope, session_id: str) -> Window | None:
        """Return the cached window, or None; a corrupt value is logged and removed."""
        key = window_key(scope, session_id)
        value = await self._client.get(key)
        if value is None:
            return None
        try:
            return _decode(value)
        except CorruptDataError:
            log.warning("corrupt window removed", key=key)
            await self._client.delete(key)
            return None

    async def put(self, scope: Scope, session_id: str, window: Window, ttl_seconds: float) -> None:
        """Cache a window unless a newer one is cached already."""
        milliseconds = max(1, math.ceil(1000 * ttl_seconds))
        await self._client.run(
            PUT_UNLESS_NEWER, [window_key(scope, session_id)], [_encode(window), milliseconds]
        )

    async def delete(self, scope: Scope, session_id: str) -> None:
        """Drop the window."""
        await self._client.delete(window_key(scope, session_id))


def _encode(window: Window) -> bytes:
    time = to_microseconds(window.session_time)
    header = VERSION + time.to_bytes(8) + window.revision.to_bytes(8)
    return header + encode_messages(window.messages)


def _decode(value: bytes) -> Window:
    if value[:1] != VERSION or len(value) < HEADER_BYTES:
        raise CorruptDataError("not a window of this version")
    try:
        messages = decode_messages(value[HEADER_BYTES:])
        time = from_microseconds(int.from_bytes(value[1:9]))
    except (OverflowError, RecursionError) as error:
        raise CorruptDataError("not messages") from error
    return Window(time, int.from_bytes(value[9:HEADER_BYTES]), messages)
