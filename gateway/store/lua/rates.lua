-- Rates: how often operations are called, counted over all nodes.
--
-- A window is cut into slices, and all slices that the last window touches are counted, the oldest whole: so a limit
-- is never exceeded, and is at most 1/SLICES stricter than it says. A hash holds the slices as a ring of cells, the
-- number of the newest slice (`at`) and the sum of all cells (`sum`), so a call reads only the cells that went by.
do
  local SLICES = 50
  local CELLS = SLICES + 1

  -- Moves a window on to the slice `current`. Returns the newest slice, the sum, and the cells to be emptied; nil in
  -- their place when all of them are over.
  local function advanced(key, current)
    local state = redis.call('HMGET', key, 'at', 'sum')
    local at, sum, over = tonumber(state[1] or '-inf'), tonumber(state[2]), {}
    if current - at >= CELLS then return current, 0, nil end
    if current <= at then return at, sum, over end
    local cells = {}
    for slice = at + 1, current do cells[#cells + 1] = number(slice % CELLS) end
    for index, count in ipairs(redis.call('HMGET', key, unpack(cells))) do
      if count then
        sum = sum - tonumber(count)
        over[#over + 1] = cells[index]
      end
    end
    return current, sum, over
  end

  -- When enough of the oldest slices will be over for `excess` to be free, in ms from now.
  local function wait_for(key, excess, at, width, now)
    local cells = {}
    for slice = at - SLICES, at do cells[#cells + 1] = number(slice % CELLS) end
    for index, count in ipairs(redis.call('HMGET', key, unpack(cells))) do
      excess = excess - tonumber(count or 0)
      if excess <= 0 then return math.max(1, math.ceil((at + index) * width - now)) end
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
      local at, sum, over = advanced(key, math.floor(now / width))
      if sum + weight > most then wait = math.max(wait, wait_for(key, sum + weight - most, at, width, now)) end
      writes[index] = {key, at, sum, over or false, weight, length}
    end
    if wait > 0 then return wait end
    for _, write in ipairs(writes) do
      local key, at, sum, over, weight, length = unpack(write)
      if not over then
        redis.call('DEL', key)
      elseif #over > 0 then
        redis.call('HDEL', key, unpack(over))
      end
      redis.call('HINCRBY', key, number(at % CELLS), weight)
      redis.call('HSET', key, 'at', number(at), 'sum', number(sum + weight))
      redis.call('PEXPIRE', key, length * 2)
    end
    return 0
  end

  -- A full store must not keep bans from being counted, and so from being made; a window's hash stays small.
  register_gw('take_rate', take_rate, 'allow-oom')
end
