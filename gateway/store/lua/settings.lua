-- Live settings.

-- settings: changes live settings and raises their version. KEYS settings; ARGS field, value, …
local function settings(keys, args)
  if #args > 0 then redis.call('HSET', keys[1], unpack(args)) end
  return redis.call('HINCRBY', keys[1], 'version', 1)
end

register_gw('settings', settings)
