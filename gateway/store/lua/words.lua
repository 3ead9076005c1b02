-- Profanity words: one hash, folded word → JSON of the word as it was given, and the field '' → the version.
do
  local VERSION_FIELD = ''
  local TOO_MANY = 1019

  local function raise_version(key)
    -- The time, not a count: a store that came back empty never repeats a version that a node still holds.
    redis.call('HSET', key, VERSION_FIELD, string.format('%x', time_us()))
  end

  local function count(key)
    return math.max(redis.call('HLEN', key) - 1, 0)
  end

  -- words_add: all of them or, over the limit, none. KEYS words; ARGS limit, folded word, JSON, …
  -- Returns {0, how many there are} or {1019, how many there are}.
  register_gw('words_add', function(keys, args)
    local fresh = {}
    for i = 2, #args, 2 do
      if redis.call('HEXISTS', keys[1], args[i]) == 0 then fresh[args[i]] = true end
    end
    local total = count(keys[1])
    for _ in pairs(fresh) do total = total + 1 end
    if total > tonumber(args[1]) then return {TOO_MANY, count(keys[1])} end
    redis.call('HSET', keys[1], unpack(args, 2))
    raise_version(keys[1])
    return {0, total}
  end)

  -- words_remove: KEYS words; ARGS folded word, … Returns how many there were.
  register_gw('words_remove', function(keys, args)
    local removed = redis.call('HDEL', keys[1], unpack(args))
    if removed > 0 then raise_version(keys[1]) end
    return removed
  end, 'allow-oom')

  -- words_read: KEYS words; ARGS version known. Returns {version, 0} when that is the present one, else all words:
  -- {version, 1, JSON, …}.
  register_gw('words_read', function(keys, args)
    local version = redis.call('HGET', keys[1], VERSION_FIELD) or ''
    if version == args[1] then return {version, 0} end
    local reply = {version, 1}
    local flat = redis.call('HGETALL', keys[1])
    for i = 1, #flat, 2 do
      if flat[i] ~= VERSION_FIELD then reply[#reply + 1] = flat[i + 1] end
    end
    return reply
  end, 'no-writes')
end
