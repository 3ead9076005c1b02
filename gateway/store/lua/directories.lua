-- Directories: who is registered, deactivated, muted, banned, online; a sorted set a partition (online: a set).

-- window: a partition's share of a listing over all partitions. KEYS directory
-- ARGS least score ('-inf' = from the start), how many of what follows to skip, how many to return
-- Returns {entries below the least score, member, score, …}, in the order of (score, member).
local function window(keys, args)
  local below = 0
  if args[1] ~= '-inf' then below = redis.call('ZCOUNT', keys[1], '-inf', '(' .. args[1]) end
  local found = redis.call('ZRANGEBYSCORE', keys[1], args[1], '+inf', 'WITHSCORES', 'LIMIT', args[2], args[3])
  table.insert(found, 1, below)
  return found
end

register_gw('window', window, 'no-writes')
