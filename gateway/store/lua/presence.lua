-- Who is online where: one user's sessions, and what their coming and going tells others.

local function sessions_of(sessions_key)
  local flat = redis.call('HGETALL', sessions_key)
  local sessions = {}
  for i = 1, #flat, 2 do
    local record = cjson.decode(flat[i + 1])
    record.id = flat[i]
    sessions[#sessions + 1] = record
  end
  return sessions
end

local function distinct(sessions, field)
  if #sessions == 1 then return {sessions[1][field]} end
  local seen, list = {}, {}
  for _, session in ipairs(sessions) do
    local value = session[field]
    if not seen[value] then
      seen[value] = true
      list[#list + 1] = value
    end
  end
  table.sort(list)
  return list
end

local function without(sessions, id)
  local left = {}
  for _, session in ipairs(sessions) do
    if session.id ~= id then left[#left + 1] = session end
  end
  return left
end

local function class_of(platform)
  if platform == 'ios' or platform == 'android' then return 'mobile' end
  return platform
end

local function same_platforms(a, b)
  return table.concat(distinct(a, 'platform'), ' ') == table.concat(distinct(b, 'platform'), ' ')
end

-- Further fields of the user and their values go the same way.
local function write_nodes(user_key, sessions, ...)
  if #sessions == 0 then
    redis.call('HDEL', user_key, 'nodes')
  else
    redis.call('HSET', user_key, 'nodes', table.concat(distinct(sessions, 'node'), ' '), ...)
  end
end

-- `last_seen` as the user's hash has it.
local function publish_presence(user, user_key, watch_channel, sessions, at, last_seen)
  local version = number(redis.call('HINCRBY', user_key, 'version', 1))
  local online = #sessions > 0
  redis.call('SPUBLISH', watch_channel, 'p' .. user .. '\n' .. version .. '\n{"type":"presence","user":'
    .. cjson.encode(user) .. ',"online":' .. tostring(online) .. ',"at":' .. number(at)
    .. ',"last_seen":' .. (last_seen or 'null')
    .. ',"platforms":' .. json_strings(distinct(sessions, 'platform'))
    .. ',"version":' .. version .. '}')
end

local function publish_session_event(user, node_channel, sessions, event, session)
  if #sessions == 0 then return end
  local payload = 'e' .. user .. '\n' .. session.id .. '\n{"type":"session","event":"' .. event
    .. '","session":' .. cjson.encode(session.id)
    .. ',"device":' .. (session.device ~= '' and cjson.encode(session.device) or 'null')
    .. ',"platform":"' .. session.platform .. '"}'
  for _, node in ipairs(distinct(sessions, 'node')) do
    redis.call('SPUBLISH', node_channel .. node, payload)
  end
end

-- watch: a user's present state for one watcher; who is blocked by the user sees it as offline.
-- KEYS user, sessions, block; ARGS watcher. Returns {visible, online, version, last_seen or '', platforms JSON}.
local function watch(keys, args)
  local record = redis.call('HMGET', keys[1], 'version', 'last_seen', 'policy')
  local version = tonumber(record[1] or '0')
  if record[3] and string.find(record[3], 'b', 1, true) and redis.call('ZSCORE', keys[3], args[1]) then
    return {0, 0, version, '', '[]'}
  end
  local sessions = sessions_of(keys[2])
  return {1, #sessions > 0 and 1 or 0, version, record[2] or '', json_strings(distinct(sessions, 'platform'))}
end

register_gw('watch', watch, 'no-writes')
