"""Claims to model calls in Valkey or Redis: one value a call, changed only by its owner."""

import structlog

from recollect_server.chat.ports import Flight
from recollect_server.stores.codec import (
    CorruptDataError,
    from_microseconds,
    pack,
    to_microseconds,
    unpack,
)
from recollect_server.stores.valkey.connect import Client, Script
from recollect_server.stores.valkey.keys import flight_key

log = structlog.get_logger("recollect.valkey")

CLAIM = Script("""
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] and there ~= ARGV[3] then
  return there
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
""")
PROLONG = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
""")
RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
""")


class ValkeyFlights:
    """Implements `chat.ports.Flights`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def claim(
        self, tenant: str, key: str, mine: Flight, seconds: float, instead_of: Flight | None
    ) -> Flight | None:
        """See `Flights`."""
        name = flight_key(tenant, key)
        gone = _encode(instead_of) if instead_of is not None else b""
        there = await self._client.run(CLAIM, [name], [_encode(mine), int(seconds * 1000), gone])
        if there is None:
            return None
        try:
            return _decode(there)
        except CorruptDataError:
            log.warning("corrupt claim removed", key=name)
            await self._client.delete(name)
            return None

    async def prolong(self, tenant: str, key: str, mine: Flight, seconds: float) -> None:
        """See `Flights`."""
        milliseconds = int(seconds * 1000)
        await self._client.run(PROLONG, [flight_key(tenant, key)], [_encode(mine), milliseconds])

    async def release(self, tenant: str, key: str, mine: Flight) -> None:
        """See `Flights`."""
        await self._client.run(RELEASE, [flight_key(tenant, key)], [_encode(mine)])


def _encode(flight: Flight) -> bytes:
    return pack([flight.user_id, flight.turn_id, to_microseconds(flight.start_time)])


def _decode(data: bytes) -> Flight:
    match unpack(data):
        case [str(user_id), str(turn_id), int(start)]:
            return Flight(user_id, turn_id, from_microseconds(start))
    raise CorruptDataError("not a claim to a model call")
