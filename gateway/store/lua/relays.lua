-- Messages by the batch: what one node relays in one turn of its event loop.
--
-- A push is published once for each node that is to hear of any of them, as
--   M<count>\n then <recipient>\n<stream id or nothing>\n<bytes of the push>\n for each, then the pushes end to end
-- to nodes that take batches, which the last letter of their incarnation says; to others, and alone, as relay does it.

local TAKES_BATCHES = 109  -- 'm'
local NOBODY, SOMEBODY = {}, {{reached = 1}}

local function put(parcels, order, node, prefix, to, id, head, tail)
  local parcel = parcels[node]
  if not parcel then
    parcel = {node = node, channel = prefix .. 'n:' .. node, heads = {}, parts = {}, count = 0}
    -- As a list it is itself alone: for most messages no other list need be made of the nodes that hear of them.
    parcel[1] = parcel
    parcels[node] = parcel
    order[#order + 1] = parcel
  end
  local heads, parts, count = parcel.heads, parcel.parts, parcel.count
  heads[3 * count + 1], heads[3 * count + 2], heads[3 * count + 3] = to, id, #head + #tail
  parts[2 * count + 1], parts[2 * count + 2] = head, tail
  parcel.count = count + 1
  return parcel
end

-- Returns how many nodes heard of it, or the error table of Redis.
local function publish(parcel)
  local heads, parts, count = parcel.heads, parcel.parts, parcel.count
  if count > 1 and string.byte(parcel.node, -1) == TAKES_BATCHES then
    return redis.pcall('SPUBLISH', parcel.channel,
      'M' .. count .. '\n' .. table.concat(heads, '\n') .. '\n' .. table.concat(parts))
  end
  local reached = 0
  for i = 1, count do
    reached = redis.pcall('SPUBLISH', parcel.channel,
      'm' .. heads[3 * i - 2] .. '\n' .. heads[3 * i - 1] .. '\n' .. parts[2 * i - 1] .. parts[2 * i])
    if type(reached) == 'table' then return reached end
  end
  return reached
end

-- The line of a message that did not end as it should.
local function failed(fault)
  return '!' .. string.gsub(type(fault) == 'table' and fault.err or tostring(fault), '\n', ' ')
end

-- relay_many: as many times relay, each on its own: what goes wrong with one message leaves the others as they are.
-- KEYS user, inbox of each
-- ARGS inbox limit, retention ms, inbox limit in bytes, then sender, flags, tail of each; behind the flag e of an
--      ephemeral one stands the time in ms
-- Returns a line for each: + or - and the stream id, as somebody was reached or not; a code; or ! and an error.
local function relay_many(keys, args)
  local limit, retention_ms, bytes_max = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local ids, reach, parcels, order = {}, {}, {}, {}
  for i = 1, #keys / 2 do
    local user_key, flags, tail = keys[2 * i - 1], args[3 * i + 2], args[3 * i + 3]
    local _, cut = string.find(user_key, '}:u:', 1, true)
    local prefix, to = string.sub(user_key, 1, cut - 2), string.sub(user_key, cut + 1)
    local now_ms = flags ~= '' and string.match(flags, 'e(%d+)')
    local fine, code, id, nodes, head = pcall(relayed, user_key, keys[2 * i], prefix, args[3 * i + 1], to, flags, tail,
      limit, retention_ms, bytes_max, now_ms)
    if not fine then
      ids[i] = failed(code)
    elseif code ~= 0 then
      ids[i] = code
    else
      ids[i] = id
      if not nodes then
        reach[i] = NOBODY
      elseif not head then
        reach[i] = SOMEBODY
      elseif not string.find(nodes, ' ', 1, true) then
        reach[i] = put(parcels, order, nodes, prefix, to, id, head, tail)
      else
        local several = {}
        for node in string.gmatch(nodes, '%S+') do
          several[#several + 1] = put(parcels, order, node, prefix, to, id, head, tail)
        end
        reach[i] = several
      end
    end
  end
  for _, parcel in ipairs(order) do
    local reached = publish(parcel)
    if type(reached) == 'table' then parcel.fault, reached = reached, 0 end
    parcel.reached = reached
  end
  for i, reached in pairs(reach) do
    local sign, fault = '-', nil
    for _, parcel in ipairs(reached) do
      if parcel.reached > 0 then sign = '+' end
      fault = fault or parcel.fault
    end
    ids[i] = fault and failed(fault) or sign .. ids[i]
  end
  return table.concat(ids, '\n')
end

register_gw('relay_many', relay_many)
