-- What happens to messages after they were stored: recalled, changed, looked up.
--
-- Inboxes are searched backwards, a bounded stretch a call: the caller goes on from where a call stopped, so that no
-- call keeps the server from relaying.

-- What a change looks like is said once, for broadcasts.lua as well.
local append_change

do

-- What a history answers comes over a link that Redis allows little: with the largest bodies 2.5 MiB a call.
local CHUNK = 8
local LOOK_MAX = 256
local LOOK_BYTES_MAX = 524288
local PUSHES = {r = 'recalled', u = 'updated'}

-- Shows entries to `visit`, newest first, until it returns true or enough were looked at.
-- Returns where to go on, '' when there is nothing more to look at.
local function look_back(inbox_key, upper, lower, visit)
  local looked, bytes = 0, 0
  while looked < LOOK_MAX and bytes < LOOK_BYTES_MAX do
    local entries = redis.call('XREVRANGE', inbox_key, upper, lower, 'COUNT', CHUNK)
    for _, entry in ipairs(entries) do
      local id, kind, tail = entry[1], entry[2][1], entry[2][2]
      if visit(id, kind, tail) then return '' end
      looked, bytes, upper = looked + 1, bytes + #tail, '(' .. id
    end
    if #entries < CHUNK then return '' end
  end
  return upper
end

-- Where a search begins. What changes a message comes behind it, up to the end of the inbox: that far it is only
-- looked at when something did change since.
local function newest(user_key, from, latest, lower)
  if from ~= '' then return from end
  if latest == '' then return '+' end
  local changed = tonumber(redis.call('HGET', user_key, 'changed_at') or '-1')
  return changed >= tonumber(lower) and '+' or latest
end

local function begins(text, with, at)
  return string.sub(text, at, at + #with - 1) == with
end

-- Appends a change and tells the user's nodes. The inbox's limit does not count here: a recall takes an entry away,
-- and an update takes the one before it away, where one call sees both.
function append_change(keys, user, record, kind, tail, channel_prefix)
  local id = redis.call('XADD', keys[2], '*', kind, tail)
  local ms = string.match(id, '^%d+')
  redis.call('HSET', keys[1], 'changed_at', ms)
  local payload = 'm' .. user .. '\n' .. id .. '\n{"type":"' .. PUSHES[kind] .. '","cursor":"' .. record[3] .. '.' .. id
    .. '","at":' .. ms .. ',' .. tail
  for node in string.gmatch(record[2] or '', '%S+') do redis.call('SPUBLISH', channel_prefix .. node, payload) end
end

-- Whether somebody who has no copy of the message in the inbox is told all the same: the sender's own devices, which
-- showed it when they sent it. Never where it would fill an inbox that nobody empties.
local function wants_notice(keys, record, limit)
  return limit > 0 and (record[2] or redis.call('EXISTS', keys[3]) == 1)
    and not string.find(record[1], 'x', 1, true) and redis.call('XLEN', keys[2]) < limit
end

-- recall: takes a message, and what changed it, out of an inbox, leaves a note and tells the user's nodes.
-- KEYS user, inbox, ack
-- ARGS user, head (the tail from "mid" to "to"), what follows it in the message, tail of the push,
--      node channel prefix, where to go on ('' at first), latest ms ('' = the end), earliest ms ('-' = the start),
--      found by an earlier call (1 or 0), inbox limit for a note without a message (0 = no such note),
--      stored at most once (1 or 0)
-- Returns {0 not there or 1 recalled or 2 recalled before, where to go on or ''}.
local function recall(keys, args)
  local user, head, message, lower = args[1], args[2], args[2] .. args[3], args[8]
  local record = redis.call('HMGET', keys[1], 'policy', 'nodes', 'epoch')
  if not record[1] then return {0, ''} end
  local state = tonumber(args[9])
  local onward = look_back(keys[2], newest(keys[1], args[6], args[7], lower), lower, function(id, kind, tail)
    if not begins(tail, head, 1) then return false end
    if kind == 'r' then
      state = 2
    elseif kind == 'u' or begins(tail, message, 1) then
      redis.call('XDEL', keys[2], id)
      -- A message that a client sent twice under one key is there twice, and goes twice.
      if kind ~= 'u' and state == 0 then
        state = 1
        append_change(keys, user, record, 'r', args[4], args[5])
      end
    end
    return state == 2 or (state == 1 and args[11] == '1')
  end)
  if state == 0 and onward == '' and wants_notice(keys, record, tonumber(args[10])) then
    append_change(keys, user, record, 'r', args[4], args[5])
    state = 1
  end
  return {state, onward}
end

-- update: changes a message's body: leaves a note with the new one behind it and tells the user's nodes. An older
-- such note goes.
-- KEYS and ARGS as recall; ARGS[9] is the age in ms from which a message cannot be changed any more (0 = any can).
-- Returns {0 not there or 1 changed or 2 recalled before or 3 too old, where to go on or ''}.
local function update(keys, args)
  local user, head, message, lower, age = args[1], args[2], args[2] .. args[3], args[8], tonumber(args[9])
  local record = redis.call('HMGET', keys[1], 'policy', 'nodes', 'epoch')
  if not record[1] then return {0, ''} end
  local state, stale, oldest = 0, {}, age > 0 and time_ms() - age or 0
  local onward = look_back(keys[2], newest(keys[1], args[6], args[7], lower), lower, function(id, kind, tail)
    if not begins(tail, head, 1) then return false end
    if kind == 'u' then
      stale[#stale + 1] = id
    elseif kind == 'r' then
      state = 2
    elseif begins(tail, message, 1) then
      state = tonumber(string.match(id, '^%d+')) < oldest and 3 or 1
    end
    return state > 0
  end)
  if state == 1 or (state == 0 and onward == '' and wants_notice(keys, record, tonumber(args[10]))) then
    for _, id in ipairs(stale) do redis.call('XDEL', keys[2], id) end
    append_change(keys, user, record, 'u', args[4], args[5])
    state = 1
  end
  return {state, onward}
end

-- history: one user's direct messages to another, out of the other's inbox, newest first, and what changed them.
-- KEYS user, inbox
-- ARGS "from" and "to" as tails have them, where to go on ('' at first), latest ms, latest ms of what may have changed
--      them, earliest ms, messages wanted
-- Returns {where to go on or '', id, kind, tail, id, kind, tail, …}.
local function history(keys, args)
  local between, latest, lower, wanted = args[1], args[3], args[5], tonumber(args[6])
  local message, found = between .. ',"kind":', {''}
  local upper = newest(keys[1], args[2], latest, lower)
  if upper == '+' then upper = args[4] end
  found[1] = look_back(keys[2], upper, lower, function(id, kind, tail)
    local at = string.match(tail, '^"mid":"[^"]*",()')
    local shown = at and ((kind == 'u' and begins(tail, between, at)) or (kind == 'm' and begins(tail, message, at)
      and tonumber(string.match(id, '^%d+')) <= tonumber(latest)))
    if not shown then return false end
    found[#found + 1], found[#found + 2], found[#found + 3] = id, kind, tail
    if kind == 'm' then wanted = wanted - 1 end
    return wanted == 0
  end)
  return found
end

register_gw('recall', recall, 'allow-oom')
register_gw('update', update)
register_gw('history', history, 'no-writes')

end
