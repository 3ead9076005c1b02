-- Events for the app's own server: a stream that any node takes from and sends, and a shelf for what was given up.

do
  local GROUP = 'senders'
  local CONSUMER_FORGET_MS = 86400000

  -- How many entries were trimmed away untold since this was last asked: added - there - done, where `done` counts
  -- what was told, shelved or reported here before.
  local function newly_lost(stream, counts)
    local info = redis.pcall('XINFO', 'STREAM', stream)
    if info.err then return 0, 0 end
    local added, there = 0, 0
    for i = 1, #info, 2 do
      if info[i] == 'entries-added' then added = info[i + 1] end
      if info[i] == 'length' then there = info[i + 1] end
    end
    local lost = added - there - tonumber(redis.call('HGET', counts, 'done') or '0')
    if lost ~= 0 then redis.call('HINCRBY', counts, 'done', number(lost)) end
    -- Below 0: somebody has removed the stream by hand, and it counts anew.
    return math.max(lost, 0), there
  end

  -- events_take: what waits, and what others took and did not finish, becomes the consumer's.
  -- KEYS stream, counts; ARGS consumer, how many, idle ms after which what another took is taken over, where the last
  -- look for those ended. Returns {lost, backlog, where this look ended, {id, {field, value, …}}, …}.
  local function take(keys, args)
    local stream, room = keys[1], tonumber(args[2])
    local lost, backlog = newly_lost(stream, keys[2])
    local result = {lost, backlog, args[4]}
    if room == 0 then return result end
    local left = redis.pcall('XAUTOCLAIM', stream, GROUP, args[1], args[3], args[4], 'COUNT', room)
    if left.err then
      redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    else
      result[3] = left[1]
      for _, entry in ipairs(left[2]) do result[#result + 1] = entry end
      room = room - #left[2]
    end
    if room > 0 then
      local fresh = redis.call('XREADGROUP', 'GROUP', GROUP, args[1], 'COUNT', room, 'STREAMS', stream, '>')
      for _, entry in ipairs(fresh and fresh[1][2] or {}) do result[#result + 1] = entry end
    end
    return result
  end

  local function forget(keys, id)
    -- A count of entries that were there: who is second to tell one counts nothing.
    local known = redis.call('XACK', keys[1], GROUP, id)
    redis.call('XDEL', keys[1], id)
    if known > 0 then redis.call('HINCRBY', keys[2], 'done', known) end
    return known
  end

  -- events_told: the receiver has these. KEYS stream, counts; ARGS id, … Returns how many were waiting.
  local function told(keys, args)
    local known = 0
    for _, id in ipairs(args) do known = known + forget(keys, id) end
    return known
  end

  -- events_shelve: this one is given up; it is kept where a person may look. KEYS stream, counts, dead
  -- ARGS id, why, how many are kept. Returns 1 when it was waiting.
  local function shelve(keys, args)
    local entry = redis.call('XRANGE', keys[1], args[1], args[1])[1]
    if entry and tonumber(args[3]) > 0 then
      local fields = entry[2]
      fields[#fields + 1] = 'why'
      fields[#fields + 1] = args[2]
      redis.call('XADD', keys[3], 'MAXLEN', args[3], '*', unpack(fields))
    end
    return forget(keys, args[1])
  end

  -- events_release: the consumer will not send these: anybody may take them over at once.
  -- KEYS stream; ARGS consumer, id, … Returns how many were its own.
  local function release(keys, args)
    local own = 0
    for i = 2, #args do
      local claimed = redis.call('XCLAIM', keys[1], GROUP, args[1], 0, args[i], 'IDLE', CONSUMER_FORGET_MS, 'JUSTID')
      own = own + #claimed
    end
    return own
  end

  -- events_tidy: consumers that have nothing and have not been heard of for a day are forgotten. KEYS stream
  local function tidy(keys)
    local consumers = redis.pcall('XINFO', 'CONSUMERS', keys[1], GROUP)
    if consumers.err then return 0 end
    local gone = 0
    for _, flat in ipairs(consumers) do
      local consumer = {}
      for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
      if consumer.pending == 0 and consumer.idle > CONSUMER_FORGET_MS then
        redis.call('XGROUP', 'DELCONSUMER', keys[1], GROUP, consumer.name)
        gone = gone + 1
      end
    end
    return gone
  end

  -- All with allow-oom: they make room.
  register_gw('events_take', take, 'allow-oom')
  register_gw('events_told', told, 'allow-oom')
  register_gw('events_shelve', shelve, 'allow-oom')
  register_gw('events_release', release, 'allow-oom')
  register_gw('events_tidy', tidy, 'allow-oom')
end
