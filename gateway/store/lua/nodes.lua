-- Leases. gw:nodes holds incarnation → lease end in Redis' own time, the member 'grace' → until when nobody is
-- reaped, 'claim <dead> <claimant>' → until when a reaper's claim stands, and 'again <dead>' → when an incarnation that
-- was reaped is to be looked at once more. All in one key, so that a renewal and a
-- claim can never both win.

-- The lease end of an incarnation that is looked at once more; 1 is that of one whose end was told.
local SECOND_LOOK = 2

-- Whether anybody has begun to reap an incarnation, though the claim may have run out since.
local function ever_claimed(nodes_key, dead)
  for _, member in ipairs(redis.call('ZRANGE', nodes_key, 0, -1)) do
    if string.match(member, '^claim (%S+) ') == dead then return true end
  end
  return false
end

local function live_claim(nodes_key, dead, now)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', nodes_key, '(' .. number(now), '+inf')) do
    local claimed, claimant = string.match(member, '^claim (%S+) (%S+)$')
    if claimed == dead then return claimant end
  end
  return nil
end

-- Whether another node has renewed its lease in the last half of one: then the store was there, and who asks was away.
local function heard_of_others(nodes_key, me, now, lease)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', nodes_key, '(' .. number(now + lease / 2), '+inf')) do
    if member ~= me and member ~= 'grace' and not string.find(member, ' ', 1, true) then return true end
  end
  return false
end

-- renew: KEYS nodes; ARGS incarnation, lease ms, mode (first, renew, outage)
-- An ended lease can never be renewed, except after an outage of the store while nobody has begun to reap it: then
-- the first renewal opens a grace period for all. A node whose own link breaks time and again opens none, or the dead
-- would stay among the living for as long as it does.
-- Returns {granted, now ms, next lease end among the others or 0, ended incarnation, …}.
local function renew(keys, args)
  local now = time_ms()
  local me, lease, mode = args[1], tonumber(args[2]), args[3]
  local mine = tonumber(redis.call('ZSCORE', keys[1], me) or '0')
  local granted = mine > now or (mode == 'first' and mine == 0)
    or (mode == 'outage' and mine > 0 and not ever_claimed(keys[1], me))
  if mode == 'outage' and not heard_of_others(keys[1], me, now, lease) then
    local grace = tonumber(redis.call('ZSCORE', keys[1], 'grace') or '0')
    if grace < now + lease then redis.call('ZADD', keys[1], number(now + lease), 'grace') end
  end
  if granted then redis.call('ZADD', keys[1], number(now + lease), me) end
  local grace = tonumber(redis.call('ZSCORE', keys[1], 'grace') or '0')
  local result = {granted and 1 or 0, now, 0}
  local flat = redis.call('ZRANGE', keys[1], 0, -1, 'WITHSCORES')
  for i = 1, #flat, 2 do
    local member, ends = flat[i], tonumber(flat[i + 1])
    local buried = string.match(member, '^again (%S+)$')
    if buried and ends <= now then
      redis.call('ZREM', keys[1], member)
      redis.call('ZADD', keys[1], 'LT', SECOND_LOOK, buried)
      member, ends = buried, SECOND_LOOK
    end
    if member ~= me and member ~= 'grace' and not string.find(member, ' ', 1, true) then
      local reap_at = math.max(ends, grace)
      if reap_at <= now then
        result[#result + 1] = member
      elseif result[3] == 0 or reap_at < result[3] then
        result[3] = reap_at
      end
    end
  end
  return result
end

-- claim: takes an ended incarnation over, or renews the claim on it.
-- KEYS nodes; ARGS dead, claimant, claim ms. Returns 1 when it is the caller's.
local function claim(keys, args)
  local now = time_ms()
  local ends = tonumber(redis.call('ZSCORE', keys[1], args[1]) or '0')
  local grace = tonumber(redis.call('ZSCORE', keys[1], 'grace') or '0')
  if ends == 0 or ends > now or grace > now then return 0 end
  local claimant = live_claim(keys[1], args[1], now)
  if claimant and claimant ~= args[2] then return 0 end
  redis.call('ZADD', keys[1], number(now + tonumber(args[3])), 'claim ' .. args[1] .. ' ' .. args[2])
  return 1
end

-- bury: the reaped (or cleanly stopped) incarnation leaves the list, its claims with it.
-- KEYS nodes; ARGS incarnation, after how many ms it is listed once more ('' = never)
local function bury(keys, args)
  for _, member in ipairs(redis.call('ZRANGE', keys[1], 0, -1)) do
    if string.match(member, '^claim (%S+) ') == args[1] then redis.call('ZREM', keys[1], member) end
  end
  local again_ms = tonumber(args[2] or '')
  if again_ms and tonumber(redis.call('ZSCORE', keys[1], args[1]) or SECOND_LOOK) ~= SECOND_LOOK then
    redis.call('ZADD', keys[1], number(time_ms() + again_ms), 'again ' .. args[1])
  end
  return redis.call('ZREM', keys[1], args[1])
end

register_gw('renew', renew, 'allow-oom')
register_gw('claim', claim, 'allow-oom')
register_gw('bury', bury, 'allow-oom')
