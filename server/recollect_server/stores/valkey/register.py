"""Registers: which entries of the answer cache an owner has.

An entry is a key of its own, anywhere in a cluster. What is known of all entries of an owner is a
register: a few keys in one slot, changed by one script at a time. A user has one register; the
tenant's GLOBAL answers are spread over several, so that no slot is hot.

Registers have no expiry: a server that evicts keys which expire never forgets which entries there
are. `SWEEP` removes what has ended.

Parts of a register: `r` rows by id, `n` ids by revision, `u` ids by last use, `e` ids by end,
`x` vectors by id, `s` ids by `StoredAnswer.same`, `m` its time of birth, last revision and bytes.
A row is `BYTES|END|SAME|GROUP|MODEL GROUP|PARTITION|,TAG,…,FACT,…,`: numbers and hexadecimal
digests of different things, so a digest is searched in it as it is. A revision is the server's
time in microseconds, made to grow.
"""

from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import Script
from recollect_server.stores.valkey.keys import register_key, register_tag

GLOBAL_SHARDS = 16
PARTS = ("r", "n", "u", "e", "x", "s", "m")


def shards(owner: Scope) -> int:
    """Return how many registers an owner has."""
    return 1 if owner.user_id else GLOBAL_SHARDS


def tag_of(owner: Scope, entry_id: str) -> str:
    """Return the hash tag of the register that has an entry."""
    return register_tag(owner.tenant, owner.user_id, int(entry_id[:8], 16) % shards(owner))


def tags_of(owner: Scope) -> list[str]:
    """Return the hash tags of all registers of an owner."""
    return [register_tag(owner.tenant, owner.user_id, n) for n in range(shards(owner))]


def keys_of(tag: str) -> list[str]:
    """Return the keys of a register, as the scripts take them."""
    return [register_key(tag, part) for part in PARTS]


_COMMON = """
local function number(value) return string.format('%.0f', value) end
local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function drop(id)
  local row = redis.call('HGET', KEYS[1], id)
  if not row then return 0 end
  local bytes, same = string.match(row, '^(%d+)|%d+|(%x+)|')
  redis.call('HDEL', KEYS[1], id)
  for part = 2, 4 do redis.call('ZREM', KEYS[part], id) end
  redis.call('HDEL', KEYS[5], id)
  if redis.call('HGET', KEYS[6], same) == id then redis.call('HDEL', KEYS[6], same) end
  redis.call('HINCRBY', KEYS[7], 'bytes', -tonumber(bytes))
  return 1
end
local function sweep()
  local ended = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', number(milliseconds()),
    'LIMIT', 0, 500)
  for _, id in ipairs(ended) do drop(id) end
end
"""

ADD = Script(
    _COMMON
    + """
-- ARGV: id, milliseconds to live, bytes, same, the rest of the row, vector or '', most entries,
-- most bytes. Returns the end in milliseconds, and the ids that have to go.
sweep()
drop(ARGV[1])
local id, ends = ARGV[1], number(milliseconds() + ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('HGET', KEYS[7], 'last') or 0)
if last == 0 then redis.call('HSET', KEYS[7], 'born', number(now)) end
local revision = number(math.max(now, last + 1))
redis.call('HSET', KEYS[7], 'last', revision)
redis.call('HSET', KEYS[1], id, ARGV[3] .. '|' .. ends .. '|' .. ARGV[4] .. '|' .. ARGV[5])
redis.call('ZADD', KEYS[2], revision, id)
redis.call('ZADD', KEYS[3], number(milliseconds()), id)
redis.call('ZADD', KEYS[4], ends, id)
if ARGV[6] ~= '' then redis.call('HSET', KEYS[5], id, ARGV[6]) end
redis.call('HSET', KEYS[6], ARGV[4], id)
local bytes = redis.call('HINCRBY', KEYS[7], 'bytes', ARGV[3])
local count = redis.call('ZCARD', KEYS[3])
local answer = {ends}
if count > tonumber(ARGV[7]) or bytes > tonumber(ARGV[8]) then
  for _, oldest in ipairs(redis.call('ZRANGE', KEYS[3], 0, 99)) do
    if count <= tonumber(ARGV[7]) and bytes <= tonumber(ARGV[8]) then break end
    if oldest ~= id then
      answer[#answer + 1] = oldest
      count = count - 1
      bytes = bytes - tonumber(string.match(redis.call('HGET', KEYS[1], oldest), '^%d+'))
    end
  end
end
return answer
"""
)

REMOVE = Script(
    _COMMON
    + """
-- ARGV: ids. Returns how many there were.
local count = 0
for _, id in ipairs(ARGV) do count = count + drop(id) end
return count
"""
)

FIND = Script(
    _COMMON
    + """
-- ARGV: digests. Returns the bytes and the ids of the rows that have all of them.
sweep()
local rows = redis.call('HGETALL', KEYS[1])
local answer = {0}
for at = 1, #rows, 2 do
  local fits = true
  for _, digest in ipairs(ARGV) do
    fits = fits and string.find(rows[at + 1], digest, 1, true)
  end
  if fits then
    answer[1] = answer[1] + tonumber(string.match(rows[at + 1], '^%d+'))
    answer[#answer + 1] = rows[at]
  end
end
return answer
"""
)

PAGE = Script(
    _COMMON
    + """
-- ARGV: digest, revision that is too new, number wanted. Returns ids and revisions, newest first.
sweep()
local answer, below = {}, '(' .. ARGV[2]
while #answer < 2 * ARGV[3] do
  local found = redis.call('ZREVRANGEBYSCORE', KEYS[2], below, '-inf', 'WITHSCORES',
    'LIMIT', 0, 100)
  if #found == 0 then break end
  for at = 1, #found, 2 do
    local row = redis.call('HGET', KEYS[1], found[at])
    below = '(' .. number(tonumber(found[at + 1]))
    if row and string.find(row, ARGV[1], 1, true) and #answer < 2 * ARGV[3] then
      answer[#answer + 1] = found[at]
      answer[#answer + 1] = number(tonumber(found[at + 1]))
    end
  end
end
return answer
"""
)

CHANGES = Script(
    _COMMON
    + """
-- ARGV: the birth and the revision that are known, number wanted. Returns birth, the revision that
-- this brings, 1 if there is more, and records: id, group and model group, 64 bytes each, the
-- vector's length in 4 bytes, big-endian, and the vector. One value is read much faster than many.
local known = redis.call('HMGET', KEYS[7], 'born', 'last')
local born, last = known[1] or '', known[2] or '0'
local since = born == ARGV[1] and ARGV[2] or '0'
local answer, records = {born, last, 0, ''}, {}
if since == last then return answer end
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. since, '+inf', 'WITHSCORES',
  'LIMIT', 0, ARGV[3])
for at = 1, #found, 2 do
  local row = redis.call('HGET', KEYS[1], found[at])
  local group, model = string.match(row, '^%d+|%d+|%x+|(%x+)|(%x+)|')
  local vector = redis.call('HGET', KEYS[5], found[at]) or ''
  records[#records + 1] = found[at] .. group .. model .. struct.pack('>I4', #vector) .. vector
end
answer[4] = table.concat(records)
if #found == 2 * ARGV[3] then
  answer[2], answer[3] = number(tonumber(found[#found])), 1
end
return answer
"""
)

TOUCH = Script(
    _COMMON
    + """
-- ARGV: ids.
for _, id in ipairs(ARGV) do redis.call('ZADD', KEYS[3], 'XX', number(milliseconds()), id) end
return 1
"""
)

SWEEP = Script(
    _COMMON
    + """
-- Returns when the last entry ends, in milliseconds, or 0: there is nothing left.
sweep()
local latest = redis.call('ZREVRANGE', KEYS[4], 0, 0, 'WITHSCORES')
if #latest == 0 then
  redis.call('DEL', unpack(KEYS))
  return 0
end
return number(tonumber(latest[2]))
"""
)
