-- A session's life: connect, reclaim, refresh, disconnect.

local LAST_LOGINS = {
  'last_login:mobile', 'last_login:web', 'last_login:desktop', 'last_login:mini', 'last_login:other',
}

-- What connect, reclaim and refresh check alike: token, account, ban, in this order. For a session that is live
-- already, void_live holds where it differs: cut-offs that were to keep connections do not count against it.
-- `user` holds what FIT names, in that order. Returns nil, or {code, until}.
local FIT = {'void_before', 'deactivated_at', 'ban_until', 'void_live'}

local function refused(user, revoked_key, issued_at, jti, now, live)
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

-- `order` is a number's text. Further fields of the user and their values are written on the way.
local function register_session(keys, args, order, now, sessions, ...)
  local session = {
    node = args[3], device = args[4], platform = args[5], issued_at = args[6], jti = args[7],
    address = args[8], order = order, connected_at = number(now),
  }
  redis.call('HSET', keys[2], args[2], cjson.encode(session))
  redis.call('SADD', keys[3], args[1] .. '\n' .. args[2])
  session.id = args[2]
  local joined = without(sessions, session.id)
  joined[#joined + 1] = session
  write_nodes(keys[1], joined, ...)
  redis.call('SADD', keys[7], args[1])
  return session, joined
end

local function drop_payload(user, call, close_code, code, reason, ends, ids, all)
  return 'd' .. cjson.encode({
    user = user, call = call, close_code = close_code, code = code, reason = reason, ends = ends,
    sessions = json_strings(ids), all = all,
  })
end

-- Where the replay starts and whether everything since is still held.
-- `own` is where the device begins, nil where nobody has looked.
local function replay_start(keys, user_epoch, floor, device, own, since_epoch, since_id, head)
  if since_id ~= '' and since_epoch == user_epoch and not later(since_id, head) and not later(floor, since_id) then
    return since_id, 1
  end
  local start
  if device ~= '' then
    own = own or redis.call('HGET', keys[6], device)
    if own then start = ack_place(own) end
  end
  start = start or acked(keys[6], true) or '0-0'
  local recovered = since_id == '' and not later(floor, start)
  return start, recovered and 1 or 0
end

-- connect: may a session live, and if so it does from here on.
-- KEYS user, sessions, at (this incarnation's), revoked, inbox, ack, online, epoch
-- ARGS user, session, incarnation, device, platform, issued_at, jti, address, device policy, sessions limit,
--      since epoch, since id, retention ms, node channel prefix, watch channel
-- Returns {0, connected_at, epoch, start, head, recovered, muted, order, other devices (1 or 0),
-- the last broadcast taken} or {code, until}.
local function connect(keys, args)
  local order = time_us()
  local now = math.floor(order / 1000)
  local user, device, platform, policy = args[1], args[4], args[5], args[9]
  -- All that is asked of the user in one call: calls are what a Function costs.
  local record = redis.call('HMGET', keys[1], FIT[1], FIT[2], FIT[3], FIT[4], 'policy', 'muted', 'broadcast_seen', 'floor',
    'epoch', 'epoch_of', 'last_seen')
  local no = refused(record, keys[4], args[6], args[7], now)
  if no then return no end
  if not record[5] then return {NO_SUCH_USER, 0} end
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
  local epoch, renewed = renew_epoch(user, keys[1], keys[8], args[14], sessions, record[9], record[10])
  local place = number(order)
  local session, joined = register_session(keys, args, place, now, sessions, 'last_login:' .. class, place .. ' ' .. device)
  -- The disconnect of a replaced session will find nothing to remove: its end is told here.
  for _, gone in ipairs(replaced) do publish_session_event(user, args[14], sessions, 'closed', gone) end
  publish_session_event(user, args[14], sessions, 'opened', session)
  if #before_platforms == 0 or renewed or not same_platforms(before_platforms, joined) then
    publish_presence(user, keys[1], args[15], joined, now, record[11])
  end
  local head, floor = last_id(keys[5]), record[8]
  if head ~= '0-0' then floor = trim_before(keys[5], keys[1], number(now - tonumber(args[13])) .. '-0') or floor end
  floor = floor or '0-0'
  -- Whether the user has another device, online or known: only then are sends echoed.
  local own, known
  if device ~= '' then
    own, known = know_device(keys[6], device, joined, now, tonumber(args[13]))
  else
    known = redis.call('HLEN', keys[6])
  end
  local start, recovered = replay_start(keys, epoch, floor, device, own, args[11], args[12], head)
  local others = (#joined > 1 or known > 0) and 1 or 0
  return {0, now, epoch, start, head, recovered, record[6] == '1' and 1 or 0, place, others, record[7] or '0-0'}
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
-- KEYS and ARGS as connect; ARGS[11] is the order that connect gave it, ARGS[12] the epoch it has lived in.
-- Returns {0, muted, head, the last broadcast taken, 1 when it had been removed meanwhile, epoch, start of the replay
-- where the epoch is another one or ''} or {code, until}.
local function reclaim(keys, args)
  local now = time_ms()
  local user, id, device, platform, policy, order = args[1], args[2], args[4], args[5], args[9], tonumber(args[11])
  local no = refused(redis.call('HMGET', keys[1], unpack(FIT)), keys[4], args[6], args[7], now, true)
  if no then
    if no[1] == BANNED then no[1] = BANNED_ONLINE end
    return no
  end
  if redis.call('ZSCORE', keys[4], 's:' .. id) then return {KICKED, 0} end
  local record = redis.call('HMGET', keys[1], 'policy', 'muted', 'dropped_order', 'dropped_order:' .. device,
    'broadcast_seen', 'epoch', 'epoch_of', 'last_seen')
  if not record[1] then return {NO_SUCH_USER, 0} end
  if math.max(tonumber(record[3] or '0'), tonumber(record[4] or '0')) >= order then return {KICKED, 0} end
  local sessions = sessions_of(keys[2])
  if overtaken(keys[1], sessions, id, device, platform, policy, order) then return {REPLACED, 0} end
  local others = without(sessions, id)
  local epoch, renewed = renew_epoch(user, keys[1], keys[8], args[14], others, record[6], record[7])
  local session, joined = register_session(keys, args, number(order), tonumber(args[13]), sessions)
  if #others == #sessions then publish_session_event(user, args[14], others, 'opened', session) end
  if #sessions == 0 or renewed or not same_platforms(sessions, joined) then
    publish_presence(user, keys[1], args[15], joined, now, record[8])
  end
  local anew, start = #others == #sessions and 1 or 0, ''
  if epoch ~= args[12] then start = replay_start(keys, epoch, '0-0', device, nil, '', '', '0-0') end
  return {0, record[2] == '1' and 1 or 0, last_id(keys[5]), record[5] or '0-0', anew, epoch, start}
end

-- refresh: swaps a live session's token. KEYS user, sessions, revoked
-- ARGS session, incarnation, issued_at, jti. Returns {0, 0} or {code, until}.
local function refresh(keys, args)
  local no = refused(redis.call('HMGET', keys[1], unpack(FIT)), keys[3], args[3], args[4], time_ms())
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

-- disconnect: removes the session if it is still that incarnation's.
-- KEYS user, sessions, at, online; ARGS user, session, incarnation, node channel prefix, watch channel
-- Returns 1 when it was removed, 2 when it was not there any more, 0 when another incarnation holds it.
local function disconnect(keys, args)
  local user, id = args[1], args[2]
  redis.call('SREM', keys[3], user .. '\n' .. id)
  local raw = redis.call('HGET', keys[2], id)
  if not raw then return 2 end
  local session = cjson.decode(raw)
  if session.node ~= args[3] then return 0 end
  session.id = id
  local sessions = sessions_of(keys[2])
  redis.call('HDEL', keys[2], id)
  local left = without(sessions, id)
  write_nodes(keys[1], left)
  local now, last_seen = time_ms(), nil
  if #left == 0 then
    last_seen = number(now)
    redis.call('HSET', keys[1], 'last_seen', last_seen)
    redis.call('SREM', keys[4], user)
  end
  if #left == 0 or not same_platforms(sessions, left) then
    publish_presence(user, keys[1], args[5], left, now, last_seen or redis.call('HGET', keys[1], 'last_seen'))
  end
  if #left > 0 then publish_session_event(user, args[4], left, 'closed', session) end
  return 1
end

register_gw('connect', connect)
register_gw('reclaim', reclaim)
register_gw('refresh', refresh)
register_gw('disconnect', disconnect, 'allow-oom')
