-- Friends. A friendship is mutual and so touches two partitions; the partition of the smaller user id owns the pair.
--
-- Making friends is four Functions: friend_hold (larger id) holds a place on that list, bound to the version of the
-- pair that was read before; befriend (smaller id) decides if the pair still has that version, writes its half and
-- leaves an intent in todo; befriend_half (larger id) writes the other half if it is newer, which gives the held
-- place up; befriended (smaller id) clears the intent. So both lists keep their limit whatever happens at once, and
-- any node finishes what a process that died has left: an intent is carried out; for a place held too long the
-- version is voided first (friend_void), so that nobody can decide on it any more, and then the place is let go.
-- Ending a friendship needs no place: unfriend, unfriend_half, befriended.
--
-- A version is the owner's time in µs, raised by at least one. It stays as a tombstone when the friendship ends, so
-- that a half that comes late loses. Tombstones of a day ago are forgotten when a user has very many, or no friend.

local CONFLICT, FRIENDS_ALREADY, NO_SUCH_FRIEND, REQUESTS_FULL = -1, 25460, 25472, -2

-- Leaves the intent to end all friendships that a user has now; part of whatever Function decides so.
-- Returns the place of the newest one, by which the intent is known.
local function clear_friends(friends_key, todo_key, user)
  local newest = redis.call('ZREVRANGE', friends_key, 0, 0, 'WITHSCORES')[2]
  -- A friend's clock may be ahead of this one.
  local last = number(math.max(time_us(), tonumber(newest or '0')))
  redis.call('HSET', todo_key, 'clear\n' .. user, cjson.encode({version = last, at = number(time_us())}))
  return last
end

do
local VERSIONS_MAX, SAMPLE, TOMBSTONE_US = 10000, 8, 86400000000

local function forget_tombstones(versions_key, friends_key)
  if redis.call('EXISTS', friends_key) == 0 then redis.call('PEXPIRE', versions_key, number(TOMBSTONE_US / 1000)) end
  if redis.call('HLEN', versions_key) <= VERSIONS_MAX then return end
  local before, flat = time_us() - TOMBSTONE_US, redis.call('HRANDFIELD', versions_key, SAMPLE, 'WITHVALUES')
  for i = 1, #flat, 2 do
    if tonumber(flat[i + 1]) < before and not redis.call('ZSCORE', friends_key, flat[i]) then
      redis.call('HDEL', versions_key, flat[i])
    end
  end
end

local function version_of(versions_key, other)
  return tonumber(redis.call('HGET', versions_key, other) or '0')
end

local function is_deactivated(user_key)
  return redis.call('HEXISTS', user_key, 'deactivated_at') == 1
end

-- KEYS as of befriend.
local function write_add(keys, other, version, at)
  redis.call('HSET', keys[3], other, number(version))
  local score = tonumber(at)
  -- Pages go on after a score, so no two friends may share one.
  while redis.call('ZCOUNT', keys[2], number(score), number(score)) > 0 do score = score + 1 end
  redis.call('ZADD', keys[2], 'NX', number(score), other)
  redis.call('PERSIST', keys[3])
  redis.call('ZREM', keys[6], other)
end

local function write_remove(keys, other, version)
  redis.call('HSET', keys[3], other, number(version))
  redis.call('ZREM', keys[2], other)
  redis.call('HDEL', keys[5], other)
  forget_tombstones(keys[3], keys[2])
end

local function leave_intent(keys, op, smaller, larger, version, at)
  redis.call('HSET', keys[7], 'pair\n' .. smaller .. '\n' .. larger,
    cjson.encode({op = op, version = number(version), at = number(at)}))
  return {0, number(version), number(at)}
end

-- friend_look: what one of a pair says of the other.
-- KEYS user, friends, versions, block, allow, requests; ARGS other
-- Returns {version, friends, deactivated, permission or '', blocks, allowlist shuts out, was asked by the other}.
local function look(keys, args)
  local user = redis.call('HMGET', keys[1], 'deactivated_at', 'friend_permission', 'allowlist_on')
  local asked = tonumber(redis.call('ZSCORE', keys[6], args[1]) or '0')
  return {
    number(version_of(keys[3], args[1])),
    redis.call('ZSCORE', keys[2], args[1]) and 1 or 0,
    user[1] and 1 or 0,
    user[2] or '',
    redis.call('ZSCORE', keys[4], args[1]) and 1 or 0,
    (user[3] == '1' and not redis.call('ZSCORE', keys[5], args[1])) and 1 or 0,
    asked > time_ms() and 1 or 0,
  }
end

-- friend_hold: holds a place on the list of the larger id. KEYS user, friends, held, todo
-- ARGS larger, smaller, version read, limit. Returns 0, DEACTIVATED, LIST_FULL, or CONFLICT: the version is old.
local function hold(keys, args)
  local larger, smaller = args[1], args[2]
  if is_deactivated(keys[1]) then return DEACTIVATED end
  local held = redis.call('HGET', keys[3], smaller)
  if held and tonumber(held) > tonumber(args[3]) then return CONFLICT end
  local others = redis.call('ZCARD', keys[2]) + redis.call('HLEN', keys[3]) - (held and 1 or 0)
  if redis.call('ZSCORE', keys[2], smaller) then others = others - 1 end
  if others >= tonumber(args[4]) then return LIST_FULL end
  redis.call('HSET', keys[3], smaller, args[3])
  redis.call('HSET', keys[4], 'held\n' .. larger .. '\n' .. smaller,
    cjson.encode({version = args[3], at = number(time_us())}))
  return 0
end

-- befriend: decides. KEYS user, friends, versions, held, notes, requests, todo (of the smaller id)
-- ARGS smaller, larger, version read, limit
-- Returns {0, version, at us} or {DEACTIVATED}, {FRIENDS_ALREADY}, {CONFLICT}, {LIST_FULL}.
local function befriend(keys, args)
  local larger = args[2]
  if is_deactivated(keys[1]) then return {DEACTIVATED} end
  if redis.call('ZSCORE', keys[2], larger) then return {FRIENDS_ALREADY} end
  local known = version_of(keys[3], larger)
  if known ~= tonumber(args[3]) then return {CONFLICT} end
  if redis.call('ZCARD', keys[2]) + redis.call('HLEN', keys[4]) >= tonumber(args[4]) then return {LIST_FULL} end
  local at = time_us()
  local version = math.max(at, known + 1)
  write_add(keys, larger, version, at)
  return leave_intent(keys, 'add', args[1], larger, version, at)
end

-- unfriend: decides. KEYS as of befriend; ARGS smaller, larger, 1 = the other half is known to be there
-- Returns {0, version, at us}; {0, '', ''} where there is nothing to do.
local function unfriend(keys, args)
  local smaller, larger = args[1], args[2]
  if not redis.call('ZSCORE', keys[2], larger) and args[3] ~= '1' then
    local raw = redis.call('HGET', keys[7], 'pair\n' .. smaller .. '\n' .. larger)
    if not raw then return {0, '', ''} end
    -- Decided before, and perhaps nobody is left who writes the other half.
    local intent = cjson.decode(raw)
    return {0, intent.version, intent.at}
  end
  local at = time_us()
  local version = math.max(at, version_of(keys[3], larger) + 1)
  write_remove(keys, larger, version)
  return leave_intent(keys, 'remove', smaller, larger, version, at)
end

local function let_go(held_key, todo_key, larger, smaller)
  redis.call('HDEL', held_key, smaller)
  redis.call('HDEL', todo_key, 'held\n' .. larger .. '\n' .. smaller)
end

-- The halves: KEYS as of befriend, of the larger id; ARGS larger, smaller, version, at us
-- Return 1 when it was newer, else 0; befriend_half 2 where the account has ended meanwhile: end the friendship.
local function half(op, keys, args)
  local larger, smaller, version = args[1], args[2], tonumber(args[3])
  local newer = version > version_of(keys[3], smaller)
  if newer and op == 'add' and is_deactivated(keys[1]) then return 2 end
  if newer then
    if op == 'add' then write_add(keys, smaller, version, args[4]) else write_remove(keys, smaller, version) end
  end
  local held = redis.call('HGET', keys[4], smaller)
  if held and tonumber(held) < version then let_go(keys[4], keys[7], larger, smaller) end
  return newer and 1 or 0
end

-- befriended: clears an intent if it is still that version. KEYS todo; ARGS intent, version
local function befriended(keys, args)
  local raw = redis.call('HGET', keys[1], args[1])
  if not raw or cjson.decode(raw).version ~= args[2] then return 0 end
  return redis.call('HDEL', keys[1], args[1])
end

-- friend_void: makes sure that nobody decides on a version any more. KEYS friends, versions, todo (of the smaller id)
-- ARGS smaller, larger, version. Returns the intent that is waiting, '' when none.
local function void(keys, args)
  local intent = redis.call('HGET', keys[3], 'pair\n' .. args[1] .. '\n' .. args[2])
  local known = version_of(keys[2], args[2])
  if known == tonumber(args[3]) then
    redis.call('HSET', keys[2], args[2], number(math.max(time_us(), known + 1)))
    forget_tombstones(keys[2], keys[1])
  end
  return intent or ''
end

-- friend_release: lets a held place go, if it is still that version's. KEYS held, todo (of the larger id)
-- ARGS larger, smaller, version
local function release(keys, args)
  local held = redis.call('HGET', keys[1], args[2])
  if held and held ~= args[3] then return 0 end
  let_go(keys[1], keys[2], args[1], args[2])
  return 1
end

-- friend_clear: KEYS friends, todo; ARGS user. Returns the place of the newest friendship that ends.
local function clear(keys, args)
  return clear_friends(keys[1], keys[2], args[1])
end

-- friend_ask: a request that waits for the user. KEYS user, requests; ARGS who asks, most, lifetime ms
-- Returns 0, DEACTIVATED or REQUESTS_FULL.
local function ask(keys, args)
  if is_deactivated(keys[1]) then return DEACTIVATED end
  local now = time_ms()
  redis.call('ZREMRANGEBYSCORE', keys[2], '-inf', number(now))
  if not redis.call('ZSCORE', keys[2], args[1]) and redis.call('ZCARD', keys[2]) >= tonumber(args[2]) then
    return REQUESTS_FULL
  end
  redis.call('ZADD', keys[2], number(now + tonumber(args[3])), args[1])
  redis.call('PEXPIRE', keys[2], args[3])
  return 0
end

-- friend_note: what a user calls a friend, and its own attributes of that friend: '<bytes of the alias>:<alias><JSON>'.
-- KEYS friends, notes; ARGS friend, alias, 1 = change the attributes, attributes (JSON, '' = none)
local function note(keys, args)
  if not redis.call('ZSCORE', keys[1], args[1]) then return NO_SUCH_FRIEND end
  local alias, attributes = args[2], args[4]
  if args[3] ~= '1' then
    local old = redis.call('HGET', keys[2], args[1]) or '0:'
    local length = string.match(old, '^(%d+):')
    attributes = string.sub(old, #length + 2 + tonumber(length))
  end
  if alias == '' and attributes == '' then
    redis.call('HDEL', keys[2], args[1])
  else
    redis.call('HSET', keys[2], args[1], #alias .. ':' .. alias .. attributes)
  end
  return 0
end

-- friend_page: KEYS friends, notes; ARGS place to go on after ('' = the beginning), most, 1 = oldest first
-- Returns {how many in all, friend, place, note or '', …}.
local function page(keys, args)
  local after, found = args[1] ~= '' and '(' .. args[1] or nil, nil
  if args[3] == '1' then
    found = redis.call('ZRANGEBYSCORE', keys[1], after or '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, args[2])
  else
    found = redis.call('ZREVRANGEBYSCORE', keys[1], after or '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, args[2])
  end
  local result = {redis.call('ZCARD', keys[1])}
  for i = 1, #found, 2 do
    result[#result + 1] = found[i]
    result[#result + 1] = found[i + 1]
    result[#result + 1] = redis.call('HGET', keys[2], found[i]) or ''
  end
  return result
end

register_gw('friend_look', look, 'no-writes')
register_gw('friend_page', page, 'no-writes')
register_gw('friend_hold', hold)
register_gw('befriend', befriend)
register_gw('befriend_half', function(keys, args) return half('add', keys, args) end)
register_gw('unfriend', unfriend, 'allow-oom')
register_gw('unfriend_half', function(keys, args) return half('remove', keys, args) end, 'allow-oom')
register_gw('befriended', befriended, 'allow-oom')
register_gw('friend_void', void, 'allow-oom')
register_gw('friend_release', release, 'allow-oom')
register_gw('friend_clear', clear, 'allow-oom')
register_gw('friend_ask', ask)
register_gw('friend_note', note)
end
