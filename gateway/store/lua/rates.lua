-- Rates: how often operations are called, counted over all nodes.
--
-- A window is cut into slices; a hash holds slice number → count. All slices that the last window touches are counted,
-- the oldest whole, so a limit is never exceeded and at most 1/SLICES stricter than it says.
do
  local SLICES = 50

  -- What the last window holds: its sum, the slices that are over, those that count (oldest first).
  local function slices_of(key, oldest)
    local used, over, held = 0, {}, {}
    local flat = redis.call('HGETALL', key)
    for index = 1, #flat, 2 do
      local slice, count = tonumber(flat[index]), tonumber(flat[index + 1])
      if slice < oldest then
        over[#over + 1] = flat[index]
      else
        used = used + count
        held[#held + 1] = {slice, count}
      end
    end
    table.sort(held, function(left, right) return left[1] < right[1] end)
    return used, over, held
  end

  -- When enough of the oldest slices will be over for `excess` to be free, in ms from now.
  local function wait_for(excess, held, width, now)
    for _, each in ipairs(held) do
      excess = excess - each[2]
      if excess <= 0 then return math.max(1, math.ceil((each[1] + SLICES + 1) * width - now)) end
    end
    return 1
  end

  -- take_rate: counts a call in each of its windows, or in none. KEYS one a window; ARGS weight, then of each window:
  -- most, length in ms. A call that alone weighs more than a window holds takes all of it.
  -- Returns 0, or after how many ms the call may be repeated.
  local function take_rate(keys, args)
    local now, wait, writes = time_us() / 1000, 0, {}
    for index, key in ipairs(keys) do
      local most, length = tonumber(args[index * 2]), tonumber(args[index * 2 + 1])
      local weight, width = math.min(tonumber(args[1]), most), length / SLICES
      local current = math.floor(now / width)
      local used, over, held = slices_of(key, current - SLICES)
      if used + weight > most then wait = math.max(wait, wait_for(used + weight - most, held, width, now)) end
      writes[index] = {key, over, number(current), weight, length}
    end
    if wait > 0 then return wait end
    for _, write in ipairs(writes) do
      local key, over, current, weight, length = unpack(write)
      if #over > 0 then redis.call('HDEL', key, unpack(over)) end
      redis.call('HINCRBY', key, current, weight)
      redis.call('PEXPIRE', key, length * 2)
    end
    return 0
  end

  -- A full store must not keep bans from being counted, and so from being made; a window's hash stays small.
  register_gw('take_rate', take_rate, 'allow-oom')
end
