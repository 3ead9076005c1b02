#!lua name=gw1

-- All that must be atomic, one Function each. Every Function touches one partition only and declares its keys; relay_many
-- declares of each recipient two and finds the others beside them: where one of these is in another server just now,
-- because the slot is being moved, Redis stops the message.
-- The library and its Functions carry the major version in their names, so that an old node and a new one can run
-- side by side; VERSION is the minor one: a node replaces an older library when it starts.
--
-- The files of this directory are one library, joined in the order that functions.py names: what a file uses of
-- another stands before it.
--
-- What must not surprise: a Function's own push may arrive before or after its reply (it differs between Redis 7.0
-- and 7.2), so nothing depends on that order.

local VERSION = 5

local NO_SUCH_USER, BLOCKED, NOT_ALLOWED, NOT_FRIENDS = 404, 405, 407, 25469
local MUTED, INBOX_FULL, LIST_FULL = 20106, 20607, 25467
local BANNED, REPLACED, BANNED_ONLINE, EXPIRED, REFUSED_DEVICE = 31009, 31010, 31011, 31020, 31023
local TOO_MANY_SESSIONS, DEACTIVATED, KICKED = 31024, 31029, 4505

local function register_gw(name, callback, ...)
  redis.register_function{function_name = 'gw1_' .. name, callback = callback, flags = {...}}
end

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

local function json_strings(list)
  if #list == 0 then return '[]' end
  return cjson.encode(list)
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

register_gw('version', function() return VERSION end, 'no-writes')
