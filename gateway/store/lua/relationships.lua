-- Blocklists and allowlists.

-- edit: adds to or removes from a block or allow list; binds the very next relay. Who is blocked no longer sees this
-- user's presence, so the watchers' nodes are told in the same step.
-- KEYS list, user
-- ARGS list name (block, allow), op (add, remove), limit, user, watch channel, 1 = only in the list's mode, members…
-- Returns 0, LIST_FULL, ALLOWLIST_OFF or ALLOWLIST_ON.
local ALLOWLIST_OFF, ALLOWLIST_ON = 1010, 1011

local function edit(keys, args)
  local name, op, limit = args[1], args[2], tonumber(args[3])
  if args[6] == '1' then
    local on = redis.call('HGET', keys[2], 'allowlist_on') == '1'
    if name == 'allow' and not on then return ALLOWLIST_OFF end
    if name == 'block' and on then return ALLOWLIST_ON end
  end
  local changed = {}
  if op == 'add' then
    for i = 7, #args do
      if not redis.call('ZSCORE', keys[1], args[i]) then changed[#changed + 1] = args[i] end
    end
    if #changed > 0 and redis.call('ZCARD', keys[1]) + #changed > limit then return LIST_FULL end
    -- Pages go on after a score, so no two entries may share one, whatever the clock does.
    local newest = redis.call('ZREVRANGE', keys[1], 0, 0, 'WITHSCORES')[2]
    local from = math.max(time_us(), tonumber(newest or '0'))
    for i, member in ipairs(changed) do redis.call('ZADD', keys[1], number(from + i), member) end
  else
    for i = 7, #args do
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

register_gw('edit', edit)
register_gw('allowlist', allowlist)
