-- The inbox: relaying into it, echoing, acknowledging, trimming.
--
-- An entry has one field. Its name says what the entry is, its value is the tail of the push: everything behind the
-- place and the time, which are the entry's id. 'm' is a message; 'n' one that histories do not show; 'r' says that a
-- message was recalled, 'u' that one was changed (recalls.lua). Every tail begins with "mid", "from" and "to".

local RETRY_WINDOW_MS = 600000
local RETRY_SCAN_MAX = 256

local function last_id(inbox_key)
  -- An error costs more than the question.
  if redis.call('EXISTS', inbox_key) == 0 then return '0-0' end
  local info = redis.pcall('XINFO', 'STREAM', inbox_key)
  if info.err then return '0-0' end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  return '0-0'
end

-- Removes all entries before `id` and remembers the highest removed one as the floor: below it, nobody may believe
-- to have recovered everything. Returns the new floor, nil where nothing was removed.
local function trim_before(inbox_key, user_key, id)
  local highest = redis.call('XREVRANGE', inbox_key, '(' .. id, '-', 'COUNT', 1)[1]
  if not highest then return end
  redis.call('XTRIM', inbox_key, 'MINID', id)
  redis.call('HSET', user_key, 'floor', highest[1])
  return highest[1]
end

local function acked(ack_key, choose_later)
  local chosen
  for _, value in ipairs(redis.call('HVALS', ack_key)) do
    local place = ack_place(value)
    if not chosen or later(place, chosen) == choose_later then chosen = place end
  end
  return chosen
end

-- An inbox without room gives up what is expired, then what all devices have acked, then (for messages) what any has;
-- what nobody has taken over is never flushed by strangers.
local FOR_MESSAGES = {full_at = 'full_at', choices = {false, true}}
local FOR_ECHOES = {full_at = 'half_full_at', choices = {false}}

local function make_room(user_key, inbox_key, ack_key, retention_ms, choices, fits)
  trim_before(inbox_key, user_key, number(time_ms() - retention_ms) .. '-0')
  for _, choose_later in ipairs(choices) do
    if fits() then return true end
    local place = acked(ack_key, choose_later)
    if place then trim_before(inbox_key, user_key, after(place)) end
  end
  return fits()
end

-- The size of a stream costs a walk over its nodes, a longer one the more of them there are. So it is looked at for every
-- 64th entry only, in a long inbox at steps of a 32nd to a 16th of it: what the walks cost an entry stays the
-- same. Where a large tail is to be added it is every 64th all the same, so that what is passed stays small in bytes. An
-- inbox that was found full is believed to be so for a second.
local SIZE_EVERY, SIZE_SHARE, LARGE_TAIL, SIZE_AGAIN_MS = 64, 32, 4096, 1000

local function size_due(length, tail)
  if length % SIZE_EVERY > 0 or length == 0 then return false end
  if #tail > LARGE_TAIL then return true end
  local every = SIZE_EVERY
  while every * SIZE_SHARE < length do every = every * 2 end
  return length % every == 0
end

local function size_allows(user_key, inbox_key, ack_key, bytes_max, retention_ms, what)
  local full_at, now = redis.call('HGET', user_key, what.full_at), time_ms()
  if full_at and math.abs(now - full_at) < SIZE_AGAIN_MS then return false end
  local function fits()
    return (redis.call('MEMORY', 'USAGE', inbox_key, 'SAMPLES', 0) or 0) <= bytes_max
  end
  if fits() or make_room(user_key, inbox_key, ack_key, retention_ms, what.choices, fits) then
    if full_at then redis.call('HDEL', user_key, what.full_at) end
    return true
  end
  redis.call('HSET', user_key, what.full_at, number(now))
  return false
end

-- Whether one more entry fits. Kept lean for relay's sake: one XLEN where there is room.
local function has_room(user_key, inbox_key, ack_key, tail, limit, bytes_max, retention_ms, what)
  local length = redis.call('XLEN', inbox_key)
  if length >= limit then
    local function fits() return redis.call('XLEN', inbox_key) < limit end
    return make_room(user_key, inbox_key, ack_key, retention_ms, what.choices, fits)
  end
  if not size_due(length, tail) then return true end
  return size_allows(user_key, inbox_key, ack_key, bytes_max, retention_ms, what)
end

local function verdict_of(policy, flags, sender, to, prefix)
  if string.find(policy, 'x', 1, true) then return DEACTIVATED end
  if string.find(flags, 's', 1, true) then return nil end
  if string.find(flags, 'm', 1, true) then return MUTED end
  if string.find(policy, 'b', 1, true) and redis.call('ZSCORE', prefix .. 'block:' .. to, sender) then return BLOCKED end
  if string.find(policy, 'a', 1, true) and sender ~= to
      and not redis.call('ZSCORE', prefix .. 'allow:' .. to, sender) then
    return NOT_ALLOWED
  end
  if string.find(flags, 'f', 1, true) and sender ~= to
      and not redis.call('ZSCORE', prefix .. 'friends:' .. to, sender) then
    return NOT_FRIENDS
  end
  return nil
end

local function stored_before(inbox_key, tail, now)
  local head = string.match(tail, '^"mid":"[^"]*"')
  local from = number(now - RETRY_WINDOW_MS) .. '-0'
  local changed
  for _, entry in ipairs(redis.call('XREVRANGE', inbox_key, '+', from, 'COUNT', RETRY_SCAN_MAX)) do
    if string.sub(entry[2][2], 1, #head) == head then
      -- Of a message that was recalled meanwhile only this is left: a retry does not bring it back.
      if entry[2][1] == 'm' or entry[2][1] == 'n' then return entry[1] end
      changed = changed or entry[1]
    end
  end
  return changed
end

-- The whole send as far as the recipient decides it. Kept lean: HMGET, a ZSCORE only where a flag says there is a list,
-- XLEN, XADD. What is rarely looked at has its key made when it is: `prefix` is that of the recipient's partition.
-- flags: m muted, f friends-only, r retry, e ephemeral, s sent by the app's server and bound by no list, n not shown in
-- histories. The tail of the push begins with the message's id.
-- Returns 0, stream id or '', nodes of the recipient or nil, and what stands before the tail in the push; or a code.
local function relayed(user_key, inbox_key, prefix, sender, to, flags, tail, limit, retention_ms, bytes_max, now_ms)
  local user = redis.call('HMGET', user_key, 'policy', 'nodes', 'epoch')
  local policy, nodes = user[1], user[2] or nil
  if not policy then return NO_SUCH_USER end
  local kind = 'm'
  if policy ~= '-' or flags ~= '' then
    -- Before the policy: an error would say that nothing was stored.
    if string.find(flags, 'r', 1, true) then
      local id = stored_before(inbox_key, tail, time_ms())
      if id then return 0, id, nodes, nil end
    end
    local verdict = verdict_of(policy, flags, sender, to, prefix)
    if verdict then return verdict end
    if string.find(flags, 'n', 1, true) then kind = 'n' end
    if string.find(flags, 'e', 1, true) then
      return 0, '', nodes, nodes and '{"type":"message","sent_at":' .. now_ms .. ','
    end
  end
  local length = redis.call('XLEN', inbox_key)
  if (length >= limit or length % SIZE_EVERY == 0 and length > 0)
      and not has_room(user_key, inbox_key, prefix .. 'ack:' .. to, tail, limit, bytes_max, retention_ms,
        FOR_MESSAGES) then
    return INBOX_FULL
  end
  local id = redis.call('XADD', inbox_key, '*', kind, tail)
  if not nodes then return 0, id end
  return 0, id, nodes, '{"type":"message","cursor":"' .. user[3] .. '.' .. id .. '","sent_at":'
    .. string.sub(id, 1, string.find(id, '-', 1, true) - 1) .. ','
end

-- relay: one message. Kept for nodes before version 5 and for what the app's server sends.
-- KEYS user, inbox, block, allow, friends, ack
-- ARGS sender, to, flags, mid, tail of the push, inbox limit, retention ms, node channel prefix, now ms (ephemeral
--      only), inbox limit in bytes
-- Returns {0, stream id or '', nodes reached} or {code}.
local function relay(keys, args)
  local to, tail = args[2], args[5]
  local prefix = string.sub(keys[1], 1, -(#to + 3))
  local code, id, nodes, head = relayed(keys[1], keys[2], prefix, args[1], to, args[3], tail, tonumber(args[6]),
    tonumber(args[7]), tonumber(args[10]) or math.huge, args[9])
  if code ~= 0 then return {code} end
  if not nodes then return {0, id, 0} end
  if not head then return {0, id, 1} end
  local payload, reached = 'm' .. to .. '\n' .. id .. '\n' .. head .. tail, 0
  for node in string.gmatch(nodes, '%S+') do
    reached = reached + redis.call('SPUBLISH', args[8] .. node, payload)
  end
  return {0, id, reached}
end

-- echo: the sender's own copy of a message that was relayed, for the sender's other devices. Echoes fill half of the
-- inbox at the most, so that nobody's own messages shut it to others; beyond that one is pushed and not stored.
-- KEYS user, inbox, ack
-- ARGS user, session that sent it ('' = the app's server), tail, inbox limit, retention ms, node channel prefix,
--      inbox limit in bytes
-- Returns the stream id, '' where it was only pushed, or DEACTIVATED or NO_SUCH_USER.
local function echo(keys, args)
  local user = redis.call('HMGET', keys[1], 'policy', 'nodes', 'epoch')
  if not user[1] then return NO_SUCH_USER end
  if string.find(user[1], 'x', 1, true) then return DEACTIVATED end
  local id, at, cursor = '', nil, ''
  local limit, bytes_max = tonumber(args[4]), tonumber(args[7]) or math.huge
  if has_room(keys[1], keys[2], keys[3], args[3], limit / 2, bytes_max / 2, tonumber(args[5]), FOR_ECHOES) then
    id = redis.call('XADD', keys[2], '*', 'm', args[3])
    at, cursor = string.match(id, '^%d+'), '"cursor":"' .. user[3] .. '.' .. id .. '",'
  end
  local payload = 'o' .. args[1] .. '\n' .. args[2] .. '\n' .. id .. '\n{"type":"message",' .. cursor .. '"sent_at":'
    .. (at or number(time_ms())) .. ',' .. args[3]
  for node in string.gmatch(user[2] or '', '%S+') do redis.call('SPUBLISH', args[6] .. node, payload) end
  return id
end

local DEVICES_MAX = 16

-- Makes room for one more device: those not heard of for the retention are forgotten (what they had not acked has
-- expired), then the least recently seen ones until the newcomer fits.
local function forget_devices(ack_key, heard_before)
  local flat, devices = redis.call('HGETALL', ack_key), {}
  for i = 1, #flat, 2 do
    devices[#devices + 1] = {device = flat[i], seen = tonumber(string.match(flat[i + 1], '@(%d+)$'))}
  end
  table.sort(devices, function(a, b) return a.seen < b.seen end)
  for i, entry in ipairs(devices) do
    if entry.seen >= heard_before and #devices - i + 1 < DEVICES_MAX then return end
    redis.call('HDEL', ack_key, entry.device)
  end
end

-- A device is known from its first connect on, and begins where any has acked: what comes from then on waits for it too.
-- `present` are the user's sessions: their devices are seen, however long they have had nothing to ack.
-- Returns where the device begins, and how many others are known.
local function know_device(ack_key, device, present, now, retention_ms)
  local at = '@' .. number(now)
  local function seen(known)
    local value = redis.call('HGET', ack_key, known)
    if not value then return end
    local place = ack_place(value)
    redis.call('HSET', ack_key, known, place .. at)
    return place
  end
  local known, place = redis.call('HLEN', ack_key), '0-0'
  if known > 0 then
    local own = seen(device)
    if own then return own, known - 1 end
    for _, session in ipairs(present) do seen(session.device) end
    place = acked(ack_key, true)
    forget_devices(ack_key, now - retention_ms)
    known = redis.call('HLEN', ack_key)
  end
  redis.call('HSET', ack_key, device, place .. at)
  return place, known
end

-- ack: a device has taken over everything up to a place. Cumulative; never goes back; an ack of another epoch is
-- ignored. KEYS user, ack, inbox; ARGS device, epoch, id, not looked at (nodes of before give a limit of devices),
-- retention ms, 1 where what all devices have acked goes at once. Returns 1 when it moved.
local function ack(keys, args)
  if redis.call('HGET', keys[1], 'epoch') ~= args[2] then return 0 end
  local now, retention_ms = time_ms(), tonumber(args[5])
  local old = redis.call('HGET', keys[2], args[1])
  if old and not later(args[3], ack_place(old)) then return 0 end
  if not old then forget_devices(keys[2], now - retention_ms) end
  redis.call('HSET', keys[2], args[1], args[3] .. '@' .. number(now))
  trim_before(keys[3], keys[1], number(now - retention_ms) .. '-0')
  if args[6] == '1' then trim_before(keys[3], keys[1], after(acked(keys[2], false))) end
  return 1
end

register_gw('relay', relay)
register_gw('echo', echo)
register_gw('ack', ack, 'allow-oom')
