"""Token buckets in Valkey or Redis: one value each, by the server's own clock."""

from recollect_server.admin.buckets import Taken
from recollect_server.admin.limits import Limit, Rate
from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import Client, Script
from recollect_server.stores.valkey.keys import bucket_key

# Times are microseconds since 1970; the value is when the bucket is full, and the microseconds for
# one permit and for all of them by which that holds; a bucket that is full is gone. A permit may
# come a microsecond early, so that none is missed by a rounded number.
# ARGV: microseconds for one permit, and for all of them, fewest and most permits wanted. Returns
# the permits given and the microseconds until the bucket is full. A command may be sent twice: the
# permits of the first time are then lost, which is to the safe side.
TAKE = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each, all = tonumber(ARGV[1]), tonumber(ARGV[2])
local need, want = tonumber(ARGV[3]), tonumber(ARGV[4])
local full = now
local until_full, one, period = string.match(redis.call('GET', KEYS[1]) or '', '(%S+) (%S+) (%S+)')
if until_full then
  full = math.max(now, tonumber(until_full))
  if tonumber(one) ~= each or tonumber(period) ~= all then
    full = now + math.min((full - now) * each / tonumber(one), all)
  end
end
local room, given = now + all - full + 1, 0
if need == 0 then
  given = want
elseif room >= math.min(need * each, all) then
  given = math.max(need, math.min(want, math.floor(room / each)))
end
if given > 0 then
  full = full + given * each
  local kept = string.format('%.3f', full) .. ' ' .. ARGV[1] .. ' ' .. ARGV[2]
  redis.call('SET', KEYS[1], kept, 'PX', math.ceil((full - now) / 1000))
end
return {given, math.ceil(full - now)}
""")


class ValkeyBuckets:
    """Implements `admin.buckets.Buckets`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def take(self, owner: Scope, limit: Limit, rate: Rate, need: int, want: int) -> Taken:
        """See `Buckets`."""
        each = f"{rate.each * 1e6:.6f}".encode()
        key = bucket_key(owner, limit)
        answer = await self._client.run(TAKE, [key], [each, int(rate.seconds * 1e6), need, want])
        granted, full_in = (int(number) for number in answer)
        return Taken(granted, full_in / 1e6)
