#!lua name=gw1

-- All that must be atomic, one Function each. Every Function declares its keys and touches one partition only.
-- The library and its Functions carry the major version in their names, so that an old node and a new one can run
-- side by side; VERSION is the minor one: a node replaces an older library when it starts.
--
-- What must not surprise: a Function's own push may arrive before or after its reply (it differs between Redis 7.0
-- and 7.2), so nothing depends on that order.

local VERSION = 1

local NO_SUCH_USER, BLOCKED, NOT_ALLOWED, NOT_FRIENDS = 404, 405, 407, 25469
local MUTED, INBOX_FULL, LIST_FULL = 20106, 20607, 25467
local BANNED, REPLACED, BANNED_ONLINE, EXPIRED, REFUSED_DEVICE = 31009, 31010, 31011, 31020, 31023
local TOO_MANY_SESSIONS, DEACTIVATED, KICKED = 31024, 31029, 4505

local RETRY_WINDOW_MS = 600000
local RETRY_SCAN_MAX = 256
-- A token without an end must not come back to life while anybody could still hold it.
local REVOKED_FORGET_MS = 3650 * 86400000
-- For so long a dropped session is not taken back by a node that was cut off when it was dropped.
local DROPPED_FORGET_MS = 86400000
local MARKS_MAX = 1000
local LAST_LOGINS = {
  'last_login:mobile', 'last_login:web', 'last_login:desktop', 'last_login:mini', 'last_login:other',
}

local function number(value)
  return string.format('%.0f', value)
end

local function time_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function time_ms()
  return math.floor(time_us() / 1000)
end

-- Stream ids, compared as Redis orders them.

local function parts(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function later(a, b)
  local a_ms, a_seq = parts(a)
  local b_ms, b_seq = parts(b)
  return a_ms > b_ms or (a_ms == b_ms and a_seq > b_seq)
end

local function ack_place(value)
  return string.match(value, '^([^@]+)')
end

-- policy: one short string of flags kept in the user's hash for relay's sake. '-' stands first, so that it is never
-- empty; absent = no such user.

local function set_policy_flag(user_key, flag, on)
  local policy = redis.call('HGET', user_key, 'policy')
  if not policy then return end
  local has = string.find(policy, flag, 1, true) ~= nil
  if on and not has then
    redis.call('HSET', user_key, 'policy', policy .. flag)
  elseif has and not on then
    redis.call('HSET', user_key, 'policy', (string.gsub(policy, flag, '')))
  end
end

-- Sessions of one user.

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

local function json_strings(list)
  if #list == 0 then return '[]' end
  return cjson.encode(list)
end

local function class_of(platform)
  if platform == 'ios' or platform == 'android' then return 'mobile' end
  return platform
end

local function publish_presence(user, user_key, watch_channel, sessions, at)
  local version = redis.call('HINCRBY', user_key, 'version', 1)
  local last_seen = redis.call('HGET', user_key, 'last_seen')
  local online = #sessions > 0
  redis.call('SPUBLISH', watch_channel, 'p' .. user .. '\n' .. number(version) .. '\n{"type":"presence","user":'
    .. cjson.encode(user) .. ',"online":' .. tostring(online) .. ',"at":' .. number(at)
    .. ',"last_seen":' .. (last_seen or 'null')
    .. ',"platforms":' .. json_strings(distinct(sessions, 'platform'))
    .. ',"version":' .. number(version) .. '}')
end

local function publish_session_event(user, node_channel, sessions, event, session)
  local payload = 'e' .. user .. '\n' .. session.id .. '\n{"type":"session","event":"' .. event
    .. '","session":' .. cjson.encode(session.id)
    .. ',"device":' .. (session.device ~= '' and cjson.encode(session.device) or 'null')
    .. ',"platform":"' .. session.platform .. '"}'
  for _, node in ipairs(distinct(sessions, 'node')) do
    redis.call('SPUBLISH', node_channel .. node, payload)
  end
end

local function without(sessions, id)
  local left = {}
  for _, session in ipairs(sessions) do
    if session.id ~= id then left[#left + 1] = session end
  end
  return left
end

local function write_nodes(user_key, sessions)
  if #sessions == 0 then
    redis.call('HDEL', user_key, 'nodes')
  else
    redis.call('HSET', user_key, 'nodes', table.concat(distinct(sessions, 'node'), ' '))
  end
end

local function same_platforms(a, b)
  return table.concat(distinct(a, 'platform'), ' ') == table.concat(distinct(b, 'platform'), ' ')
end

-- The inbox.

local function last_id(inbox_key)
  local info = redis.pcall('XINFO', 'STREAM', inbox_key)
  if info.err then return '0-0' end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  return '0-0'
end

-- Removes all entries before `id` and remembers the highest removed one as the floor: below it, nobody may believe
-- to have recovered everything.
local function trim_before(inbox_key, user_key, id)
  local highest = redis.call('XREVRANGE', inbox_key, '(' .. id, '-', 'COUNT', 1)[1]
  if not highest then return end
  redis.call('XTRIM', inbox_key, 'MINID', id)
  redis.call('HSET', user_key, 'floor', highest[1])
end

local function acked(ack_key, choose_later)
  local chosen
  for _, value in ipairs(redis.call('HVALS', ack_key)) do
    local place = ack_place(value)
    if not chosen or later(place, chosen) == choose_later then chosen = place end
  end
  return chosen
end

local function after(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return ms .. '-' .. number(tonumber(seq) + 1)
end

-- An inbox at its limit gives up what is expired, then what all devices have acked, then what any has; what nobody
-- has taken over is never flushed by strangers.
local function make_room(inbox_key, user_key, ack_key, limit, retention_ms)
  trim_before(inbox_key, user_key, number(time_ms() - retention_ms) .. '-0')
  for _, choose_later in ipairs({false, true}) do
    if redis.call('XLEN', inbox_key) < limit then return true end
    local place = acked(ack_key, choose_later)
    if place then trim_before(inbox_key, user_key, after(place)) end
  end
  return redis.call('XLEN', inbox_key) < limit
end

local function verdict_of(policy, flags, sender, to, block_key, allow_key, friends_key)
  if string.find(policy, 'x', 1, true) then return DEACTIVATED end
  if string.find(flags, 'm', 1, true) then return MUTED end
  if string.find(policy, 'b', 1, true) and redis.call('ZSCORE', block_key, sender) then return BLOCKED end
  if string.find(policy, 'a', 1, true) and sender ~= to and not redis.call('ZSCORE', allow_key, sender) then
    return NOT_ALLOWED
  end
  if string.find(flags, 'f', 1, true) and sender ~= to and not redis.call('ZSCORE', friends_key, sender) then
    return NOT_FRIENDS
  end
  return nil
end

local function stored_before(inbox_key, mid, now)
  local head = '"mid":"' .. mid .. '"'
  local from = number(now - RETRY_WINDOW_MS) .. '-0'
  for _, entry in ipairs(redis.call('XREVRANGE', inbox_key, '+', from, 'COUNT', RETRY_SCAN_MAX)) do
    if string.sub(entry[2][2], 1, #head) == head then return entry[1] end
  end
  return nil
end

-- relay: the whole send as far as the recipient decides it. Kept lean: HMGET, a ZSCORE only where a flag says there
-- is a list, XLEN, XADD, one SPUBLISH a node.
-- KEYS user, inbox, block, allow, friends, ack
-- ARGS sender, to, flags (m muted, f friends-only, r retry, e ephemeral), mid, tail of the push, inbox limit,
--      retention ms, node channel prefix, now ms (ephemeral only)
-- Returns {0, stream id or '', nodes reached} or {code}.
local function relay(keys, args)
  local user = redis.call('HMGET', keys[1], 'policy', 'nodes', 'epoch')
  local policy, nodes = user[1], user[2]
  if not policy then return {NO_SUCH_USER} end
  local flags, to, tail = args[3], args[2], args[5]
  if policy ~= '-' or flags ~= '' then
    -- Before the policy: an error would say that nothing was stored.
    if string.find(flags, 'r', 1, true) then
      local id = stored_before(keys[2], args[4], time_ms())
      if id then return {0, id, nodes and 1 or 0} end
    end
    local verdict = verdict_of(policy, flags, args[1], to, keys[3], keys[4], keys[5])
    if verdict then return {verdict} end
  end
  local id, payload
  if string.find(flags, 'e', 1, true) then
    id = ''
    payload = 'm' .. to .. '\n\n{"type":"message","sent_at":' .. args[9] .. ',' .. tail
  else
    if redis.call('XLEN', keys[2]) >= tonumber(args[6])
        and not make_room(keys[2], keys[1], keys[6], tonumber(args[6]), tonumber(args[7])) then
      return {INBOX_FULL}
    end
    id = redis.call('XADD', keys[2], '*', 'm', tail)
    if nodes then
      payload = 'm' .. to .. '\n' .. id .. '\n{"type":"message","cursor":"' .. user[3] .. '.' .. id
        .. '","sent_at":' .. string.sub(id, 1, string.find(id, '-', 1, true) - 1) .. ',' .. tail
    end
  end
  if not nodes then return {0, id, 0} end
  if not string.find(nodes, ' ', 1, true) then
    return {0, id, redis.call('SPUBLISH', args[8] .. nodes, payload)}
  end
  local reached = 0
  for node in string.gmatch(nodes, '%S+') do
    reached = reached + redis.call('SPUBLISH', args[8] .. node, payload)
  end
  return {0, id, reached}
end

-- echo: the sender's own copy of a message that was relayed, for the sender's other devices.
-- KEYS user, inbox, ack; ARGS user, session that sent it, tail, inbox limit, retention ms, node channel prefix
-- Returns the stream id, or INBOX_FULL or NO_SUCH_USER.
local function echo(keys, args)
  local user = redis.call('HMGET', keys[1], 'policy', 'nodes', 'epoch')
  if not user[1] then return NO_SUCH_USER end
  local limit = tonumber(args[4])
  if redis.call('XLEN', keys[2]) >= limit and not make_room(keys[2], keys[1], keys[3], limit, tonumber(args[5])) then
    return INBOX_FULL
  end
  local id = redis.call('XADD', keys[2], '*', 'm', args[3])
  local payload = 'o' .. args[1] .. '\n' .. args[2] .. '\n' .. id .. '\n{"type":"message","cursor":"' .. user[3] .. '.'
    .. id .. '","sent_at":' .. string.sub(id, 1, string.find(id, '-', 1, true) - 1) .. ',' .. args[3]
  for node in string.gmatch(user[2] or '', '%S+') do redis.call('SPUBLISH', args[6] .. node, payload) end
  return id
end

-- What connect, reclaim and refresh check alike: token, account, ban, in this order. For a session that is live
-- already, void_live holds where it differs: cut-offs that were to keep connections do not count against it.
-- Returns nil, or {code, until}.
local function refused(user_key, revoked_key, issued_at, jti, now, live)
  local user = redis.call('HMGET', user_key, 'void_before', 'deactivated_at', 'ban_until', 'void_live')
  local void_before = live and user[4] or user[1]
  if void_before and tonumber(issued_at) < tonumber(void_before) then return {EXPIRED, 0} end
  if jti ~= '' and redis.call('ZSCORE', revoked_key, jti) then return {EXPIRED, 0} end
  if user[2] then return {DEACTIVATED, 0} end
  if user[3] then
    local ends = tonumber(user[3])
    if ends == 0 or ends > now then return {BANNED, ends} end
  end
  return nil
end

local function register_session(keys, args, order, now, sessions)
  local session = {
    id = args[2], node = args[3], device = args[4], platform = args[5], issued_at = args[6], jti = args[7],
    address = args[8], order = number(order), connected_at = number(now),
  }
  local record = {}
  for field, value in pairs(session) do
    if field ~= 'id' then record[field] = value end
  end
  redis.call('HSET', keys[2], session.id, cjson.encode(record))
  redis.call('SADD', keys[3], args[1] .. '\n' .. session.id)
  local joined = without(sessions, session.id)
  joined[#joined + 1] = session
  write_nodes(keys[1], joined)
  return session, joined
end

local function drop_payload(user, call, close_code, code, reason, ends, ids, all)
  return 'd' .. cjson.encode({
    user = user, call = call, close_code = close_code, code = code, reason = reason, ends = ends,
    sessions = json_strings(ids), all = all,
  })
end

-- Where the replay starts and whether everything since is still held.
local function replay_start(keys, user_epoch, floor, device, since_epoch, since_id, head)
  if since_id ~= '' and since_epoch == user_epoch and not later(since_id, head) and not later(floor, since_id) then
    return since_id, 1
  end
  local start
  if device ~= '' then
    local own = redis.call('HGET', keys[6], device)
    if own then start = ack_place(own) end
  end
  start = start or acked(keys[6], true) or '0-0'
  local recovered = since_id == '' and not later(floor, start)
  return start, recovered and 1 or 0
end

-- connect: may this session live, and if so it does from here on.
-- KEYS user, sessions, at (this incarnation's), revoked, inbox, ack
-- ARGS user, session, incarnation, device, platform, issued_at, jti, address, device policy, sessions limit,
--      since epoch, since id, retention ms, node channel prefix, watch channel
-- Returns {0, connected_at, epoch, start, head, recovered, muted, order, other devices (1 or 0)} or {code, until}.
local function connect(keys, args)
  local order = time_us()
  local now = math.floor(order / 1000)
  local user, device, platform, policy = args[1], args[4], args[5], args[9]
  local no = refused(keys[1], keys[4], args[6], args[7], now)
  if no then return no end
  local record = redis.call('HMGET', keys[1], 'policy', 'epoch', 'muted', 'floor')
  if not record[1] then return {NO_SUCH_USER, 0} end
  local sessions = sessions_of(keys[2])
  local replaced, class = {}, class_of(platform)
  for _, session in ipairs(sessions) do
    local same_device = device ~= '' and session.device == device
    local rival = policy == 'single' or (policy ~= 'unlimited' and class_of(session.platform) == class)
    if same_device or (rival and policy ~= 'refuse') then
      replaced[#replaced + 1] = session
    elseif rival then
      return {REFUSED_DEVICE, 0}
    end
  end
  if #sessions - #replaced >= tonumber(args[10]) then return {TOO_MANY_SESSIONS, 0} end
  local before_platforms = sessions
  for _, session in ipairs(replaced) do
    redis.call('HDEL', keys[2], session.id)
    sessions = without(sessions, session.id)
    redis.call('SPUBLISH', args[14] .. session.node,
      drop_payload(user, '', 4504, REPLACED, 'a newer login took over', 0, {session.id}, false))
  end
  local session, joined = register_session(keys, args, order, now, sessions)
  redis.call('HSET', keys[1], 'last_login:' .. class, number(order) .. ' ' .. device)
  -- The disconnect of a replaced session will find nothing to remove: its end is told here.
  for _, gone in ipairs(replaced) do publish_session_event(user, args[14], sessions, 'closed', gone) end
  publish_session_event(user, args[14], sessions, 'opened', session)
  if #before_platforms == 0 or not same_platforms(before_platforms, joined) then
    publish_presence(user, keys[1], args[15], joined, now)
  end
  trim_before(keys[5], keys[1], number(now - tonumber(args[13])) .. '-0')
  local floor = redis.call('HGET', keys[1], 'floor') or '0-0'
  local head = last_id(keys[5])
  local start, recovered = replay_start(keys, record[2], floor, device, args[11], args[12], head)
  -- Whether the user has another device, online or known by its acks: only then are sends echoed.
  local known = redis.call('HLEN', keys[6])
  if device ~= '' then known = known - redis.call('HEXISTS', keys[6], device) end
  local others = (#joined > 1 or known > 0) and 1 or 0
  return {0, now, record[2], start, head, recovered, record[3] == '1' and 1 or 0, number(order), others}
end

-- Whether a session of the same device, or of the same class where the policy keeps one a class, came after `order`:
-- one that is there, or one that was recorded since and has gone.
local function overtaken(user_key, sessions, id, device, platform, policy, order)
  local class = class_of(platform)
  for _, session in ipairs(sessions) do
    if session.id ~= id and tonumber(session.order) > order then
      if device ~= '' and session.device == device then return true end
      if policy == 'single' or (policy ~= 'unlimited' and class_of(session.platform) == class) then return true end
    end
  end
  for i, login in ipairs(redis.call('HMGET', user_key, unpack(LAST_LOGINS))) do
    local at, by = string.match(login or '', '^(%d+) (.*)$')
    if at and tonumber(at) > order then
      if policy == 'single' or (policy == 'platform' and LAST_LOGINS[i] == 'last_login:' .. class) then return true end
      if device ~= '' and by == device then return true end
    end
  end
  return false
end

-- reclaim: after a break or a freeze a session is registered again. It displaces nobody, and gives way to a session
-- of its device or class that came later.
-- KEYS and ARGS as connect; ARGS[11] is the order that connect gave it, ARGS[12] its place in the inbox.
-- Returns {0, muted, head} or {code, until}.
local function reclaim(keys, args)
  local now = time_ms()
  local user, id, device, platform, policy, order = args[1], args[2], args[4], args[5], args[9], tonumber(args[11])
  local no = refused(keys[1], keys[4], args[6], args[7], now, true)
  if no then
    if no[1] == BANNED then no[1] = BANNED_ONLINE end
    return no
  end
  if redis.call('ZSCORE', keys[4], 's:' .. id) then return {KICKED, 0} end
  local record = redis.call('HMGET', keys[1], 'policy', 'muted', 'dropped_order', 'dropped_order:' .. device)
  if not record[1] then return {NO_SUCH_USER, 0} end
  if math.max(tonumber(record[3] or '0'), tonumber(record[4] or '0')) >= order then return {KICKED, 0} end
  local sessions = sessions_of(keys[2])
  if overtaken(keys[1], sessions, id, device, platform, policy, order) then return {REPLACED, 0} end
  local others = without(sessions, id)
  local session, joined = register_session(keys, args, order, tonumber(args[13]), sessions)
  if #others == #sessions then publish_session_event(user, args[14], others, 'opened', session) end
  if #sessions == 0 or not same_platforms(sessions, joined) then
    publish_presence(user, keys[1], args[15], joined, now)
  end
  return {0, record[2] == '1' and 1 or 0, last_id(keys[5])}
end

-- disconnect: removes the session if it is still that incarnation's.
-- KEYS user, sessions, at; ARGS user, session, incarnation, node channel prefix, watch channel
-- Returns 1 when it was removed, else 0.
local function disconnect(keys, args)
  local user, id = args[1], args[2]
  redis.call('SREM', keys[3], user .. '\n' .. id)
  local raw = redis.call('HGET', keys[2], id)
  if not raw then return 0 end
  local session = cjson.decode(raw)
  if session.node ~= args[3] then return 0 end
  session.id = id
  local sessions = sessions_of(keys[2])
  redis.call('HDEL', keys[2], id)
  local left = without(sessions, id)
  write_nodes(keys[1], left)
  local now = time_ms()
  if #left == 0 then redis.call('HSET', keys[1], 'last_seen', number(now)) end
  if #left == 0 or not same_platforms(sessions, left) then
    publish_presence(user, keys[1], args[5], left, now)
  end
  if #left > 0 then publish_session_event(user, args[4], left, 'closed', session) end
  return 1
end

-- drop: writes the record and publishes the drop to the nodes that hold sessions of the user, in one step, so that a
-- connecting session either is refused by the record or is found registered.
-- KEYS user, sessions, revoked, bans, deactivated, inbox, ack, block, allow
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
  set_policy_flag(keys[1], 'x', true)
  -- Everything the user owned goes, the inbox with it; the epoch changes, so that an old cursor is not believed.
  redis.call('DEL', keys[6], keys[7], keys[8], keys[9])
  redis.call('HDEL', keys[1], 'name', 'avatar_url', 'floor', 'allowlist_on')
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

-- reactivate: lifts a deactivation. KEYS user, deactivated; ARGS user. Returns 1 when there was one.
local function reactivate(keys, args)
  redis.call('HDEL', keys[1], 'deactivated_at')
  set_policy_flag(keys[1], 'x', false)
  return redis.call('ZREM', keys[2], args[1])
end

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

-- refresh: swaps a live session's token. KEYS user, sessions, revoked
-- ARGS session, incarnation, issued_at, jti. Returns {0, 0} or {code, until}.
local function refresh(keys, args)
  local no = refused(keys[1], keys[3], args[3], args[4], time_ms())
  if no then
    if no[1] == BANNED then no[1] = BANNED_ONLINE end
    return no
  end
  local raw = redis.call('HGET', keys[2], args[1])
  if not raw then return {EXPIRED, 0} end
  local session = cjson.decode(raw)
  if session.node ~= args[2] then return {EXPIRED, 0} end
  session.issued_at, session.jti = args[3], args[4]
  redis.call('HSET', keys[2], args[1], cjson.encode(session))
  return {0, 0}
end

-- Makes room for one more device: those not heard of for the retention are forgotten (what they had not acked has
-- expired), then the least recently seen ones until the newcomer fits.
local function forget_devices(ack_key, limit, heard_before)
  local flat, devices = redis.call('HGETALL', ack_key), {}
  for i = 1, #flat, 2 do
    devices[#devices + 1] = {device = flat[i], seen = tonumber(string.match(flat[i + 1], '@(%d+)$'))}
  end
  table.sort(devices, function(a, b) return a.seen < b.seen end)
  for i, entry in ipairs(devices) do
    if entry.seen >= heard_before and #devices - i + 1 < limit then return end
    redis.call('HDEL', ack_key, entry.device)
  end
end

-- ack: a device has taken over everything up to a place. Cumulative; never goes back; an ack of another epoch is
-- ignored. KEYS user, ack, inbox; ARGS device, epoch, id, devices limit, retention ms. Returns 1 when it moved.
local function ack(keys, args)
  if redis.call('HGET', keys[1], 'epoch') ~= args[2] then return 0 end
  local now = time_ms()
  local old = redis.call('HGET', keys[2], args[1])
  if old and not later(args[3], ack_place(old)) then return 0 end
  if not old then forget_devices(keys[2], tonumber(args[4]), now - tonumber(args[5])) end
  redis.call('HSET', keys[2], args[1], args[3] .. '@' .. number(now))
  trim_before(keys[3], keys[1], number(now - tonumber(args[5])) .. '-0')
  return 1
end

-- edit: adds to or removes from a block or allow list; binds the very next relay. Who is blocked no longer sees this
-- user's presence, so the watchers' nodes are told in the same step.
-- KEYS list, user; ARGS list name (block, allow), op (add, remove), limit, user, watch channel, members…
-- Returns 0 or LIST_FULL.
local function edit(keys, args)
  local name, op, limit = args[1], args[2], tonumber(args[3])
  local changed = {}
  if op == 'add' then
    for i = 6, #args do
      if not redis.call('ZSCORE', keys[1], args[i]) then changed[#changed + 1] = args[i] end
    end
    if #changed > 0 and redis.call('ZCARD', keys[1]) + #changed > limit then return LIST_FULL end
    -- Pages go on after a score, so no two entries may share one, whatever the clock does.
    local newest = redis.call('ZREVRANGE', keys[1], 0, 0, 'WITHSCORES')[2]
    local from = math.max(time_us(), tonumber(newest or '0'))
    for i, member in ipairs(changed) do redis.call('ZADD', keys[1], number(from + i), member) end
  else
    for i = 6, #args do
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

-- Friends: the partition of the smaller user id owns the pair. Its Function decides, raises the pair's version and
-- leaves an intent in todo; the other half is written only if newer (the version stays as a tombstone), then the
-- intent is cleared.

local function write_half(friends_key, versions_key, other, op, version, at)
  redis.call('HSET', versions_key, other, number(version))
  if op == 'add' then
    local score = tonumber(at)
    while redis.call('ZCOUNT', friends_key, number(score), number(score)) > 0 do score = score + 1 end
    redis.call('ZADD', friends_key, 'NX', number(score), other)
  else
    redis.call('ZREM', friends_key, other)
  end
end

-- befriend: KEYS friends, versions, todo (of the smaller id); ARGS op (add, remove), smaller, larger, limit
-- What was done already is done again: the other half may be missing.
-- Returns {0, version, at us} or {LIST_FULL}; {0, 0, ''} for the end of a friendship that never was.
local function befriend(keys, args)
  local op, larger = args[1], args[3]
  local is_friend = redis.call('ZSCORE', keys[1], larger)
  local intent = args[2] .. '\n' .. larger
  if op == 'add' and not is_friend and redis.call('ZCARD', keys[1]) >= tonumber(args[4]) then return {LIST_FULL} end
  if op == 'remove' and redis.call('HEXISTS', keys[2], larger) == 0 then return {0, 0, ''} end
  local at = number(time_us())
  local version = redis.call('HINCRBY', keys[2], larger, 1)
  write_half(keys[1], keys[2], larger, op, version, at)
  redis.call('HSET', keys[3], intent, cjson.encode({op = op, version = number(version), at = at}))
  return {0, version, at}
end

-- befriend_half: KEYS friends, versions (of the larger id); ARGS op, smaller, version, at us. Returns 1 when newer.
local function befriend_half(keys, args)
  local known = tonumber(redis.call('HGET', keys[2], args[2]) or '0')
  if tonumber(args[3]) <= known then return 0 end
  write_half(keys[1], keys[2], args[2], args[1], tonumber(args[3]), args[4])
  return 1
end

-- befriended: clears an intent if it is still that version. KEYS todo; ARGS intent, version
local function befriended(keys, args)
  local raw = redis.call('HGET', keys[1], args[1])
  if not raw or cjson.decode(raw).version ~= args[2] then return 0 end
  return redis.call('HDEL', keys[1], args[1])
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

-- Leases. gw:nodes holds incarnation → lease end in Redis' own time, the member 'grace' → until when nobody is
-- reaped, and 'claim <dead> <claimant>' → until when a reaper's claim stands. All in one key, so that a renewal and a
-- claim can never both win.

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

-- renew: KEYS nodes; ARGS incarnation, lease ms, mode (first, renew, outage)
-- An ended lease can never be renewed, except after an outage of the store while nobody has begun to reap it: then
-- the first renewal opens a grace period for all.
-- Returns {granted, now ms, next lease end among the others or 0, ended incarnation, …}.
local function renew(keys, args)
  local now = time_ms()
  local me, lease, mode = args[1], tonumber(args[2]), args[3]
  local mine = tonumber(redis.call('ZSCORE', keys[1], me) or '0')
  local granted = mine > now or (mode == 'first' and mine == 0)
    or (mode == 'outage' and mine > 0 and not ever_claimed(keys[1], me))
  if mode == 'outage' then
    local grace = tonumber(redis.call('ZSCORE', keys[1], 'grace') or '0')
    if grace < now + lease then redis.call('ZADD', keys[1], number(now + lease), 'grace') end
  end
  if granted then redis.call('ZADD', keys[1], number(now + lease), me) end
  local grace = tonumber(redis.call('ZSCORE', keys[1], 'grace') or '0')
  local result = {granted and 1 or 0, now, 0}
  local flat = redis.call('ZRANGE', keys[1], 0, -1, 'WITHSCORES')
  for i = 1, #flat, 2 do
    local member, ends = flat[i], tonumber(flat[i + 1])
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

-- bury: the reaped (or cleanly stopped) incarnation leaves the list, its claims with it. KEYS nodes; ARGS incarnation
local function bury(keys, args)
  for _, member in ipairs(redis.call('ZRANGE', keys[1], 0, -1)) do
    if string.match(member, '^claim (%S+) ') == args[1] then redis.call('ZREM', keys[1], member) end
  end
  return redis.call('ZREM', keys[1], args[1])
end

-- settings: changes live settings and raises their version. KEYS settings; ARGS field, value, …
local function settings(keys, args)
  if #args > 0 then redis.call('HSET', keys[1], unpack(args)) end
  return redis.call('HINCRBY', keys[1], 'version', 1)
end

-- answer: a node's answer to a drop or a control command; a Function, so that a full store does not silence it.
-- KEYS reply; ARGS answer, lifetime s
local function answer(keys, args)
  redis.call('RPUSH', keys[1], args[1])
  return redis.call('EXPIRE', keys[1], args[2])
end

-- once: the first caller within the lifetime gets 1, the others 0. KEYS command; ARGS lifetime s
local function once(keys, args)
  return redis.call('SET', keys[1], '1', 'NX', 'EX', args[1]) and 1 or 0
end

local function register_gw(name, callback, ...)
  redis.register_function{function_name = 'gw1_' .. name, callback = callback, flags = {...}}
end

register_gw('version', function() return VERSION end, 'no-writes')
register_gw('relay', relay)
register_gw('echo', echo)
register_gw('connect', connect)
register_gw('reclaim', reclaim)
register_gw('disconnect', disconnect, 'allow-oom')
register_gw('drop', drop, 'allow-oom')
register_gw('unban', unban, 'allow-oom')
register_gw('reactivate', reactivate)
register_gw('register', register)
register_gw('mute', mute, 'allow-oom')
register_gw('refresh', refresh)
register_gw('ack', ack, 'allow-oom')
register_gw('edit', edit)
register_gw('allowlist', allowlist)
register_gw('befriend', befriend)
register_gw('befriend_half', befriend_half)
register_gw('befriended', befriended, 'allow-oom')
register_gw('watch', watch, 'no-writes')
register_gw('renew', renew, 'allow-oom')
register_gw('claim', claim, 'allow-oom')
register_gw('bury', bury, 'allow-oom')
register_gw('settings', settings)
register_gw('answer', answer, 'allow-oom')
register_gw('once', once, 'allow-oom')
