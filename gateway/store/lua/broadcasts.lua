-- Broadcasts: one bounded stream that all nodes read, and what each user has taken of it.
--
-- An entry's op is 'all' (goes into inboxes), 'online' (is only pushed) or 'recall' (of one to all). Beside the stream
-- stands when each entry ends: '<stream id> <op> <mid> <sender>' → Unix ms.
do
  local NOT_THERE, DONE, RECALLED_BEFORE = 0, 1, 2
  local FORGET_MAX = 1000
  -- Of so many broadcasts it is known where they lie in a user's inbox, so that they can be recalled.
  local PLACES_MAX = 100

  local function append_broadcast(keys, op, mid, sender, ends, ...)
    local id = redis.call('XADD', keys[1], '*', 'op', op, 'ends', ends, ...)
    redis.call('ZADD', keys[2], ends, table.concat({id, op, mid, sender}, ' '))
    return id
  end

  local function forget_broadcast(keys, member)
    redis.call('XDEL', keys[1], string.match(member, '^%S+'))
    redis.call('ZREM', keys[2], member)
  end

  -- broadcast: KEYS broadcasts, ends
  -- ARGS op (all or online), mid, sender, lifetime ms, most, head (the push's tail up to "from"), rest (what follows
  --      "to" in it)
  -- Returns the stream id, or '' when there are as many as there may be.
  register_gw('broadcast', function(keys, args)
    local now = time_ms()
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', number(now), 'LIMIT', 0, FORGET_MAX)) do
      forget_broadcast(keys, member)
    end
    if redis.call('ZCARD', keys[2]) >= tonumber(args[5]) then return '' end
    return append_broadcast(keys, args[1], args[2], args[3], number(now + tonumber(args[4])), 'head', args[6],
      'rest', args[7])
  end)

  -- recall_broadcast: takes one to all back; whoever has not taken it never will, the others are told.
  -- KEYS broadcasts, ends; ARGS mid, sender, head and rest of the `recalled` push's tail
  -- Returns 0 not there (any more), or never of a kind that can be recalled; 1 recalled; 2 recalled before.
  register_gw('recall_broadcast', function(keys, args)
    local state = NOT_THERE
    local flat = redis.call('ZRANGEBYSCORE', keys[2], '(' .. number(time_ms()), '+inf', 'WITHSCORES')
    for i = 1, #flat, 2 do
      local id, op, mid, sender = string.match(flat[i], '^(%S+) (%S+) (%S+) (.*)$')
      if mid == args[1] and sender == args[2] then
        if op == 'recall' then return RECALLED_BEFORE end
        if op == 'all' then
          forget_broadcast(keys, flat[i])
          append_broadcast(keys, 'recall', mid, sender, number(tonumber(flat[i + 1])), 'head', args[3], 'rest',
            args[4], 'target', id)
          state = DONE
        end
      end
    end
    return state
  end, 'allow-oom')

  local function places_of(written, oldest)
    local places, count = {}, 0
    for id, place in string.gmatch(written or '', '(%S+)=(%S+)') do
      if tonumber(string.match(id, '^%d+')) >= oldest then
        count = count + 1
        places[count] = {id = id, place = place}
      end
    end
    return places
  end

  local function written(places)
    local pairs_of = {}
    for i = math.max(1, #places - PLACES_MAX + 1), #places do
      pairs_of[#pairs_of + 1] = places[i].id .. '=' .. places[i].place
    end
    return table.concat(pairs_of, ' ')
  end

  local function publish_all(nodes, channel_prefix, payload)
    local reached = 0
    for node in string.gmatch(nodes, '%S+') do
      reached = reached + redis.call('SPUBLISH', channel_prefix .. node, payload)
    end
    return reached
  end

  -- Each gives 1 when the user has it now, 0 when it does not concern the user, nil when it waits until the user comes
  -- again.
  local take = {}

  function take.all(keys, user, record, entry, settings, places)
    if tonumber(record[4] or '0') > entry.at then return 0 end
    local limit, bytes_max = settings.inbox_max, settings.bytes_max
    if not has_room(keys[1], keys[2], keys[3], entry.tail, limit, bytes_max, settings.retention_ms, FOR_MESSAGES) then
      return nil
    end
    local place = redis.call('XADD', keys[2], '*', 'n', entry.tail)
    places[#places + 1] = {id = entry.id, place = place}
    publish_all(record[2], settings.channel_prefix, 'm' .. user .. '\n' .. place .. '\n{"type":"message","cursor":"'
      .. record[3] .. '.' .. place .. '","sent_at":' .. string.match(place, '^%d+') .. ',' .. entry.tail)
    return 1
  end

  function take.online(_, user, record, entry, settings)
    local payload = 'a' .. user .. '\n' .. entry.id .. '\n{"type":"message","sent_at":' .. number(entry.at) .. ',' .. entry.tail
    return publish_all(record[2], settings.channel_prefix, payload) > 0 and 1 or nil
  end

  function take.recall(keys, user, record, entry, settings, places)
    for i, taken in ipairs(places) do
      if taken.id == entry.target then
        redis.call('XDEL', keys[2], taken.place)
        table.remove(places, i)
        append_change(keys, user, record, 'r', entry.tail, settings.channel_prefix)
        return 1
      end
    end
    return 0
  end

  -- take_broadcasts: what a user who is online has not had yet, in the order of the stream, each once: the last one
  -- taken stays in the user's record. Stops before one that cannot be taken now.
  -- KEYS user, inbox, ack
  -- ARGS user, inbox limit and its limit in bytes (a blank between), retention ms, node channel prefix, then for each:
  --      stream id, op, stream id of the one recalled or '', end ms, head, rest
  -- Returns {the last one had, taken by this call, stopped (1 or 0)}.
  register_gw('take_broadcasts', function(keys, args)
    local user, now = args[1], time_ms()
    local limit, bytes_max = string.match(args[2], '^(%d+) ?(%d*)$')
    local settings = {
      inbox_max = tonumber(limit), bytes_max = tonumber(bytes_max) or math.huge, retention_ms = tonumber(args[3]),
      channel_prefix = args[4],
    }
    local record = redis.call('HMGET', keys[1], 'policy', 'nodes', 'epoch', 'registered_at', 'broadcast_seen',
      'broadcast_places')
    local before = record[5] or '0-0'
    if not record[1] or not record[2] or string.find(record[1], 'x', 1, true) then return {before, 0, 1} end
    local seen, taken, stopped = before, 0, 0
    local places = places_of(record[6], now - settings.retention_ms)
    for i = 5, #args, 6 do
      local entry = {
        id = args[i], target = args[i + 2], at = tonumber(string.match(args[i], '^%d+')),
        tail = args[i + 4] .. ',"to":' .. cjson.encode(user) .. args[i + 5],
      }
      if later(entry.id, seen) then
        if tonumber(args[i + 3]) > now then
          local brought = take[args[i + 1]](keys, user, record, entry, settings, places)
          if not brought then
            stopped = 1
            break
          end
          taken = taken + brought
        end
        seen = entry.id
      end
    end
    if seen ~= before then
      redis.call('HSET', keys[1], 'broadcast_seen', seen, 'broadcast_places', written(places))
    end
    return {seen, taken, stopped}
  end)
end
