-- Users: registered, reactivated, muted.

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

-- reactivate: lifts a deactivation. KEYS user, deactivated; ARGS user. Returns 1 when there was one.
local function reactivate(keys, args)
  redis.call('HDEL', keys[1], 'deactivated_at')
  set_policy_flag(keys[1], 'x', false)
  return redis.call('ZREM', keys[2], args[1])
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
register_gw('mute', mute, 'allow-oom')
