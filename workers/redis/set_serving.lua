-- set_serving: make an announcement the serving one of its model kind, unless a later one is there; records of the control topic likewise.
-- KEYS    1: hash kind -> announcement JSON; 2: hash kind -> order
-- ARGV    1: kind; 2: announcement JSON; 3: order, a whole number that grows with each announcement of the kind
-- RETURNS 1 if it serves now, 0 if a later one does
-- COST    O(1)
local function set_serving(keys, args)
  local stored = redis.call('HGET', keys[2], args[1])
  if stored and tonumber(args[3]) < tonumber(stored) then return 0 end
  redis.call('HSET', keys[1], args[1], args[2])
  redis.call('HSET', keys[2], args[1], args[3])
  return 1
end
