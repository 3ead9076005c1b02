-- Revocations: bans, expiries, deactivations, kicks.

-- A token without an end must not come back to life while anybody could still hold it.
local REVOKED_FORGET_MS = 3650 * 86400000
-- For so long a dropped session is not taken back by a node that was cut off when it was dropped.
local DROPPED_FORGET_MS = 86400000
local MARKS_MAX = 1000

-- drop: writes the record and publishes the drop to the nodes that hold sessions of the user, in one step, so that a
-- connecting session either is refused by the record or is found registered.
-- KEYS user, sessions, revoked, bans, deactivated, inbox, ack, block, allow, users, friends, held, notes, requests, todo
-- ARGS user, call, kind, reason, node channel prefix, and by kind:
--   ban: until ms (0 = until lifted); expire: before ms, keep connections (1 or 0); revoke: jti;
--   deactivate: none; kick: '' or session or device, its id
-- Returns {sessions selected, node, …}: the nodes whose answer is to be awaited.
local KINDS = {}

function KINDS.ban(keys, args)
  local ends = tonumber(args[6])
  redis.call('HSET', keys[1], 'ban_until', number(ends), 'ban_reason', args[4])
  redis.call('ZADD', keys[4], ends == 0 and '+inf' or number(ends), args[1])
  return 4502, BANNED_ONLINE, ends, nil
end

function KINDS.expire(keys, args)
  local cut_off, keep = tonumber(args[6]), args[7] == '1'
  local record = redis.call('HMGET', keys[1], 'void_before', 'void_live')
  local old = tonumber(record[1] or '0')
  local live = tonumber(record[2] or record[1] or '0')
  if cut_off > old then redis.call('HSET', keys[1], 'void_before', number(cut_off)) end
  if not keep then live = math.max(live, cut_off) end
  if live >= math.max(old, cut_off) then
    redis.call('HDEL', keys[1], 'void_live')
  else
    redis.call('HSET', keys[1], 'void_live', number(live))
  end
  return 4501, EXPIRED, 0, function(session) return not keep and tonumber(session.issued_at) < cut_off end
end

function KINDS.revoke(keys, args)
  redis.call('ZADD', keys[3], number(time_ms() + REVOKED_FORGET_MS), args[6])
  return 4501, EXPIRED, 0, function(session) return session.jti == args[6] end
end

function KINDS.deactivate(keys, args)
  local now = time_ms()
  if not redis.call('HGET', keys[1], 'deactivated_at') then
    redis.call('HSET', keys[1], 'deactivated_at', number(now))
    redis.call('ZADD', keys[5], number(now), args[1])
  end
  redis.call('ZREM', keys[10], args[1])
  set_policy_flag(keys[1], 'x', true)
  -- Everything the user owned goes, the inbox with it; the epoch changes, so that an old cursor is not believed.
  redis.call('DEL', keys[6], keys[7], keys[8], keys[9], keys[13], keys[14])
  redis.call('HDEL', keys[1], 'name', 'avatar_url', 'floor', 'allowlist_on', 'friend_permission', 'tags', 'profile')
  -- Of a friendship the other half is in another partition: the intent is carried out by whoever finds it.
  if redis.call('EXISTS', keys[11], keys[12]) > 0 then clear_friends(keys[11], keys[15], args[1]) end
  set_policy_flag(keys[1], 'b', false)
  set_policy_flag(keys[1], 'a', false)
  redis.call('HSET', keys[1], 'epoch', string.format('%x', time_us()))
  return 4503, DEACTIVATED, 0, nil
end

function KINDS.kick(_, args)
  local by, wanted = args[6], args[7]
  if by == '' then return KICKED, KICKED, 0, nil end
  return KICKED, KICKED, 0, function(session)
    if by == 'session' then return session.id == wanted end
    return session.device == wanted
  end
end

local function mark_dropped(revoked_key, mark, now, call)
  -- Users can drop their own sessions as often as they like; admins wait for an answer, so their calls have an id.
  if call == '' and redis.call('ZCARD', revoked_key) >= MARKS_MAX then return end
  redis.call('ZADD', revoked_key, number(now + DROPPED_FORGET_MS), mark)
end

local function drop(keys, args)
  local user, call, reason = args[1], args[2], args[4]
  local close_code, code, ends, selects = KINDS[args[3]](keys, args)
  local now, by_node, nodes, selected = time_ms(), {}, {}, 0
  redis.call('ZREMRANGEBYSCORE', keys[3], '-inf', number(now))
  -- A node that is cut off or frozen does not hear this, and its sessions may have been reaped, so that they are not
  -- listed; a kick, or a ban that is lifted again, leaves no other record that `reclaim` could see.
  if not selects then redis.call('HSET', keys[1], 'dropped_order', number(time_us())) end
  if args[3] == 'kick' and args[6] == 'session' then mark_dropped(keys[3], 's:' .. args[7], now, call) end
  if args[3] == 'kick' and args[6] == 'device' then
    redis.call('HSET', keys[1], 'dropped_order:' .. args[7], number(time_us()))
  end
  for _, session in ipairs(sessions_of(keys[2])) do
    if not selects or selects(session) then
      local ids = by_node[session.node]
      if not ids then
        ids = {}
        by_node[session.node] = ids
        nodes[#nodes + 1] = session.node
      end
      ids[#ids + 1] = session.id
      selected = selected + 1
      if selects then mark_dropped(keys[3], 's:' .. session.id, now, call) end
    end
  end
  for _, node in ipairs(nodes) do
    redis.call('SPUBLISH', args[5] .. node,
      drop_payload(user, call, close_code, code, reason, ends, by_node[node], not selects))
  end
  local result = {selected}
  for _, node in ipairs(nodes) do result[#result + 1] = node end
  return result
end

-- unban: lifts a ban. KEYS user, bans; ARGS user. Returns 1 when there was one.
local function unban(keys, args)
  redis.call('HDEL', keys[1], 'ban_until', 'ban_reason')
  return redis.call('ZREM', keys[2], args[1])
end

register_gw('drop', drop, 'allow-oom')
register_gw('unban', unban, 'allow-oom')
