-- Epochs: of which life of the data a cursor is. A failover or a restart may take back the newest entries of an inbox,
-- and give their ids to others.

-- settle_epoch: a node has a link to the partition's master. Under another replication id than the last time the
-- partition begins a new epoch. Where nothing is known yet its id is '', which users without `epoch_of` are of.
-- KEYS epoch; ARGS replication id. Returns the epoch's id.
register_gw('settle_epoch', function(keys, args)
  local known = redis.call('HMGET', keys[1], 'replid', 'id')
  if known[1] == args[1] then return known[2] end
  local id = known[1] and string.format('%x', time_us()) or ''
  redis.call('HSET', keys[1], 'replid', args[1], 'id', id)
  return id
end, 'allow-oom')

-- Presence versions that were told and then lost are passed by so much, or watchers would drop what is told next.
local VERSIONS_LOST_MAX = 1000

-- The epoch of a user's cursors, made anew where the partition's has changed since. `others` are the user's sessions
-- that go on: their nodes hear of it before anything bears the new epoch, and reclaim them.
-- `mine`, `mine_of`: the user's `epoch` and `epoch_of`. Returns the epoch, and whether it is new.
local function renew_epoch(user, user_key, epoch_key, node_channel, others, mine, mine_of)
  -- Nodes of before do not name the key.
  local id = epoch_key and redis.call('HGET', epoch_key, 'id')
  if not id or id == (mine_of or '') then return mine, false end
  local epoch = string.format('%x', time_us())
  redis.call('HSET', user_key, 'epoch', epoch, 'epoch_of', id)
  redis.call('HINCRBY', user_key, 'version', VERSIONS_LOST_MAX)
  for _, node in ipairs(distinct(others, 'node')) do
    redis.call('SPUBLISH', node_channel .. node, 'r' .. user .. '\n' .. epoch)
  end
  return epoch, true
end
