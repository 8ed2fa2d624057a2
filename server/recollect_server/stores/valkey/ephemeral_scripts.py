"""What is done to an ephemeral session, each as one script: whole or not at all."""

from recollect_server.stores.valkey.connect import Script

# KEYS: session, messages. Fields of the session: f fixed values, r revision, l last sequence,
# w window start, u update time, i idle milliseconds, e expiry in milliseconds since 1970 or 0,
# c the creating request as ID:DIGEST. A command may be sent twice, so every other request is kept
# too, in a key of its own beside the session.
#
# When a session ends goes by the server's own clock, as a key's expiry does.
_END = """
local function finish()
  local time = redis.call('TIME')
  local idle = tonumber(redis.call('HGET', KEYS[1], 'i'))
  local ends = time[1] * 1000 + math.floor(time[2] / 1000) + idle
  local expiry = tonumber(redis.call('HGET', KEYS[1], 'e'))
  if expiry > 0 and expiry < ends then ends = expiry end
  redis.call('PEXPIREAT', KEYS[1], ends)
  redis.call('PEXPIREAT', KEYS[2], ends)
  return ends
end
"""

# ARGV: fixed values, now in ms, idle milliseconds, expiry, creating request. Returns 1 created now
# or before, 0 the session exists, -1 another request of this id created it.
CREATE = Script(
    _END
    + """
local creator = redis.call('HGET', KEYS[1], 'c')
if creator == ARGV[5] then return 1 end
if creator then
  return string.match(creator, '^[^:]+') == string.match(ARGV[5], '^[^:]+') and -1 or 0
end
redis.call('HSET', KEYS[1], 'f', ARGV[1], 'r', 1, 'l', 0, 'w', 1, 'u', ARGV[2] * 1000,
  'i', ARGV[3], 'e', ARGV[4], 'c', ARGV[5])
redis.call('DEL', KEYS[2])
finish()
return 1
"""
)

# KEYS[3]: the request. ARGV: now in ms, expected revision or -1, id and digest of the request, most
# messages, messages.
# Returns {state, revision, last, fixed values}: state 1 done, 2 done before, -1 other revision,
# -2 no session, -3 another request of this id.
APPEND = Script(
    _END
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return {-2, 0, 0, ''} end
local done = redis.call('GET', KEYS[3])
if done then
  local digest, revision, last, creator = string.match(done, '^(%x+):(%d+):(%d+):(.*)$')
  if creator == redis.call('HGET', KEYS[1], 'c') then
    if digest ~= ARGV[4] then return {-3, 0, 0, ''} end
    return {2, tonumber(revision), tonumber(last), redis.call('HGET', KEYS[1], 'f')}
  end
end
local revision = tonumber(redis.call('HGET', KEYS[1], 'r'))
local expected = tonumber(ARGV[2])
if expected >= 0 and expected ~= revision then return {-1, revision, 0, ''} end
for position = 6, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[position]) end
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[5]), -1)
revision = redis.call('HINCRBY', KEYS[1], 'r', 1)
local last = redis.call('HINCRBY', KEYS[1], 'l', #ARGV - 5)
redis.call('HSET', KEYS[1], 'u', ARGV[1] * 1000)
local record = table.concat({ARGV[4], revision, last, redis.call('HGET', KEYS[1], 'c')}, ':')
local fixed = redis.call('HGET', KEYS[1], 'f')
redis.call('SET', KEYS[3], record, 'PXAT', finish())
return {1, revision, last, fixed}
"""
)

# KEYS[3]: the request. ARGV: now in ms, the revision to change, digest of the request, fields and
# values. Returns the state as APPEND does, 1 also for a change that was made before.
CHANGE = Script(
    _END
    + """
local revision = tonumber(redis.call('HGET', KEYS[1], 'r') or -1)
if revision < 0 then return -2 end
local creator = redis.call('HGET', KEYS[1], 'c')
local digest, made = string.match(redis.call('GET', KEYS[3]) or '', '^(%x+):(.*)$')
if made == creator then return digest == ARGV[3] and 1 or -3 end
if revision ~= tonumber(ARGV[2]) then return -1 end
for position = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[position], ARGV[position + 1]) end
redis.call('HSET', KEYS[1], 'r', revision + 1, 'u', ARGV[1] * 1000)
redis.call('SET', KEYS[3], ARGV[3] .. ':' .. creator, 'PXAT', finish())
return 1
"""
)

# KEYS[3]: the request. ARGV: its digest, for how many seconds it is kept. Returns the state.
DELETE = Script("""
local done = redis.call('GET', KEYS[3])
if done then return done == ARGV[1] and 1 or -3 end
if redis.call('DEL', KEYS[1], KEYS[2]) == 0 then return -2 end
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[2])
return 1
""")

# Returns the session's fields and the messages from the ARGV[1]th to the ARGV[2]th.
READ = Script("""
local fields = redis.call('HMGET', KEYS[1], 'f', 'r', 'l', 'w', 'u', 'i', 'e')
if not fields[1] then return {} end
return {fields, redis.call('LLEN', KEYS[2]), redis.call('LRANGE', KEYS[2], ARGV[1], ARGV[2])}
""")
