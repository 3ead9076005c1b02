-- Users: registered, tagged, muted, restored, forgotten.

-- register: makes the user exist; idempotent. An empty name or avatar leaves what is there.
-- Lists may have been edited before: they bind from the first message on.
-- KEYS user, users, block; ARGS user, set name (1 or 0), name, set avatar (1 or 0), avatar
-- Returns {0, now ms, new (1 or 0)} or {code, 0}.
local function register(keys, args)
  local now = time_ms()
  local record = redis.call('HMGET', keys[1], 'policy', 'deactivated_at', 'allowlist_on')
  if record[2] then return {DEACTIVATED, 0} end
  local fresh = not record[1]
  if fresh then
    local policy = '-' .. (redis.call('EXISTS', keys[3]) == 1 and 'b' or '') .. (record[3] == '1' and 'a' or '')
    redis.call('HSET', keys[1], 'policy', policy, 'registered_at', number(now), 'epoch',
      string.format('%x', time_us()))
    redis.call('ZADD', keys[2], number(now), args[1])
  end
  if args[2] == '1' then redis.call('HSET', keys[1], 'name', args[3]) end
  if args[4] == '1' then redis.call('HSET', keys[1], 'avatar_url', args[5]) end
  return {0, now, fresh and 1 or 0}
end

-- reactivate: lifts a deactivation. KEYS user, deactivated, users, friends, held; ARGS user, least time since it in ms
-- Not before everybody has lost this user as a friend: who is back has no friend of before, and keeps the new ones.
-- Returns NOT_DEACTIVATED, RESTORED, TOO_EARLY or STILL_LEAVING.
local NOT_DEACTIVATED, RESTORED, TOO_EARLY, STILL_LEAVING = 0, 1, 2, 3

local function reactivate(keys, args)
  local record = redis.call('HMGET', keys[1], 'deactivated_at', 'registered_at')
  if not record[1] then return NOT_DEACTIVATED end
  if tonumber(record[1]) + tonumber(args[2]) > time_ms() then return TOO_EARLY end
  if redis.call('EXISTS', keys[4], keys[5]) > 0 then return STILL_LEAVING end
  redis.call('HDEL', keys[1], 'deactivated_at')
  set_policy_flag(keys[1], 'x', false)
  redis.call('ZREM', keys[2], args[1])
  if record[2] then redis.call('ZADD', keys[3], record[2], args[1]) end
  return RESTORED
end

-- forget: unregisters a deactivated user. What later acts are judged by stays: the cut-off of tokens that are still
-- about, the order of drops, and the presence version, below which watchers drop what they hear.
-- KEYS user, deactivated, bans, muted, sessions, friends; ARGS user
-- Returns 1, or 0 while the user is not deactivated, or a session or a friend is left.
local KEPT = {'void_before', 'void_live', 'version', 'dropped_order'}

local function forget(keys, args)
  if redis.call('HEXISTS', keys[1], 'deactivated_at') == 0 or redis.call('EXISTS', keys[5], keys[6]) > 0 then
    return 0
  end
  local kept = redis.call('HMGET', keys[1], unpack(KEPT))
  redis.call('DEL', keys[1])
  for i, value in ipairs(kept) do
    if value then redis.call('HSET', keys[1], KEPT[i], value) end
  end
  -- A token that was issued before would register the user again.
  redis.call('HSET', keys[1], 'void_before', number(math.max(tonumber(kept[1] or '0'), time_ms() + 1)))
  for i = 2, 4 do redis.call('ZREM', keys[i], args[1]) end
  return 1
end

-- tag: replaces a user's tags; who is deactivated owns none. KEYS user; ARGS tags (JSON), '' = none
local function tag(keys, args)
  if args[1] == '' or redis.call('HEXISTS', keys[1], 'deactivated_at') == 1 then
    return redis.call('HDEL', keys[1], 'tags')
  end
  return redis.call('HSET', keys[1], 'tags', args[1])
end

-- mute: a sender may not send direct messages. What depends on the sender alone lives in the sender's sessions, so
-- they are told in the same step. KEYS user, muted; ARGS user, 1 or 0, node channel prefix
local function mute(keys, args)
  redis.call('HSET', keys[1], 'muted', args[2])
  if args[2] == '1' then redis.call('ZADD', keys[2], number(time_ms()), args[1]) else redis.call('ZREM', keys[2], args[1]) end
  local nodes = redis.call('HGET', keys[1], 'nodes') or ''
  for node in string.gmatch(nodes, '%S+') do
    redis.call('SPUBLISH', args[3] .. node, 's' .. args[1] .. '\n' .. args[2])
  end
  return 0
end

register_gw('register', register)
register_gw('reactivate', reactivate)
register_gw('forget', forget, 'allow-oom')
register_gw('tag', tag)
register_gw('mute', mute, 'allow-oom')
