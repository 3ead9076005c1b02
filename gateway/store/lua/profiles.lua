-- Hosted profiles: one JSON text in the user's hash, so that a listing reads it with the rest of the record.

local PROFILE_KEYS_MAX = 24363

-- set_profile: changes keys of a registered user's profile; those not named stay.
-- KEYS user; ARGS basic keys (a JSON object), extended keys (a JSON object), how many extended keys there may be
-- Returns {0, version}, {NO_SUCH_USER, 0}, {DEACTIVATED, 0} or {PROFILE_KEYS_MAX, 0}.
local function set_profile(keys, args)
  local record = redis.call('HMGET', keys[1], 'policy', 'deactivated_at', 'profile')
  if record[2] then return {DEACTIVATED, 0} end
  if not record[1] then return {NO_SUCH_USER, 0} end
  local profile = cjson.decode(record[3] or '{"version":0,"userProfile":{},"userExtProfile":{}}')
  for key, value in pairs(cjson.decode(args[1])) do profile.userProfile[key] = value end
  for key, value in pairs(cjson.decode(args[2])) do profile.userExtProfile[key] = value end
  local extended = 0
  for _ in pairs(profile.userExtProfile) do extended = extended + 1 end
  if extended > tonumber(args[3]) then return {PROFILE_KEYS_MAX, 0} end
  -- Readers keep the higher version, so it rises even if the clock does not.
  local version = math.max(time_ms(), profile.version + 1)
  redis.call('HSET', keys[1], 'profile', '{"version":' .. number(version)
    .. ',"userProfile":' .. cjson.encode(profile.userProfile)
    .. ',"userExtProfile":' .. cjson.encode(profile.userExtProfile) .. '}')
  return {0, version}
end

register_gw('set_profile', set_profile)
