-- Calls that wait for nodes' answers, and commands that one node alone carries out.

-- answer: a node's answer to a drop or a control command; a Function, so that a full store does not silence it.
-- KEYS reply; ARGS answer, lifetime s
local function answer(keys, args)
  redis.call('RPUSH', keys[1], args[1])
  return redis.call('EXPIRE', keys[1], args[2])
end

-- once: the first caller within the lifetime gets 1, the others 0. KEYS command; ARGS lifetime s
local function once(keys, args)
  return redis.call('SET', keys[1], '1', 'NX', 'EX', args[1]) and 1 or 0
end

register_gw('answer', answer, 'allow-oom')
register_gw('once', once, 'allow-oom')
