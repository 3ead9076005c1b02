-- Blocklists, allowlists and friends.

-- edit: adds to or removes from a block or allow list; binds the very next relay. Who is blocked no longer sees this
-- user's presence, so the watchers' nodes are told in the same step.
-- KEYS list, user; ARGS list name (block, allow), op (add, remove), limit, user, watch channel, members…
-- Returns 0 or LIST_FULL.
local function edit(keys, args)
  local name, op, limit = args[1], args[2], tonumber(args[3])
  local changed = {}
  if op == 'add' then
    for i = 6, #args do
      if not redis.call('ZSCORE', keys[1], args[i]) then changed[#changed + 1] = args[i] end
    end
    if #changed > 0 and redis.call('ZCARD', keys[1]) + #changed > limit then return LIST_FULL end
    -- Pages go on after a score, so no two entries may share one, whatever the clock does.
    local newest = redis.call('ZREVRANGE', keys[1], 0, 0, 'WITHSCORES')[2]
    local from = math.max(time_us(), tonumber(newest or '0'))
    for i, member in ipairs(changed) do redis.call('ZADD', keys[1], number(from + i), member) end
  else
    for i = 6, #args do
      if redis.call('ZREM', keys[1], args[i]) == 1 then changed[#changed + 1] = args[i] end
    end
  end
  if #changed == 0 then return 0 end
  if name == 'block' then
    set_policy_flag(keys[2], 'b', redis.call('EXISTS', keys[1]) == 1)
    redis.call('SPUBLISH', args[5], (op == 'add' and 'b' or 'u') .. args[4] .. '\n' .. json_strings(changed))
  end
  return 0
end

-- allowlist: switches a user's allowlist on or off. KEYS user; ARGS 1 or 0
local function allowlist(keys, args)
  redis.call('HSET', keys[1], 'allowlist_on', args[1])
  set_policy_flag(keys[1], 'a', args[1] == '1')
  return 0
end

-- Friends: the partition of the smaller user id owns the pair. Its Function decides, raises the pair's version and
-- leaves an intent in todo; the other half is written only if newer (the version stays as a tombstone), then the
-- intent is cleared.

local function write_half(friends_key, versions_key, other, op, version, at)
  redis.call('HSET', versions_key, other, number(version))
  if op == 'add' then
    local score = tonumber(at)
    while redis.call('ZCOUNT', friends_key, number(score), number(score)) > 0 do score = score + 1 end
    redis.call('ZADD', friends_key, 'NX', number(score), other)
  else
    redis.call('ZREM', friends_key, other)
  end
end

-- befriend: KEYS friends, versions, todo (of the smaller id); ARGS op (add, remove), smaller, larger, limit
-- What was done already is done again: the other half may be missing.
-- Returns {0, version, at us} or {LIST_FULL}; {0, 0, ''} for the end of a friendship that never was.
local function befriend(keys, args)
  local op, larger = args[1], args[3]
  local is_friend = redis.call('ZSCORE', keys[1], larger)
  local intent = args[2] .. '\n' .. larger
  if op == 'add' and not is_friend and redis.call('ZCARD', keys[1]) >= tonumber(args[4]) then return {LIST_FULL} end
  if op == 'remove' and redis.call('HEXISTS', keys[2], larger) == 0 then return {0, 0, ''} end
  local at = number(time_us())
  local version = redis.call('HINCRBY', keys[2], larger, 1)
  write_half(keys[1], keys[2], larger, op, version, at)
  redis.call('HSET', keys[3], intent, cjson.encode({op = op, version = number(version), at = at}))
  return {0, version, at}
end

-- befriend_half: KEYS friends, versions (of the larger id); ARGS op, smaller, version, at us. Returns 1 when newer.
local function befriend_half(keys, args)
  local known = tonumber(redis.call('HGET', keys[2], args[2]) or '0')
  if tonumber(args[3]) <= known then return 0 end
  write_half(keys[1], keys[2], args[2], args[1], tonumber(args[3]), args[4])
  return 1
end

-- befriended: clears an intent if it is still that version. KEYS todo; ARGS intent, version
local function befriended(keys, args)
  local raw = redis.call('HGET', keys[1], args[1])
  if not raw or cjson.decode(raw).version ~= args[2] then return 0 end
  return redis.call('HDEL', keys[1], args[1])
end

register_gw('edit', edit)
register_gw('allowlist', allowlist)
register_gw('befriend', befriend)
register_gw('befriend_half', befriend_half)
register_gw('befriended', befriended, 'allow-oom')
