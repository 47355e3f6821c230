-- restore_names: put back the end of the numbering that a failover lost, from a worker that still knows it.
-- KEYS    1: hash item id -> number; 2: list number -> item id
-- ARGV    1: number of the first id; 2..: item ids of successive numbers, none of which the server has
-- RETURNS 1 when they are back; 0, and nothing changes, when the list does not end right there or knows one of the ids
-- COST    O(ids)
local function restore_names(keys, args)
  local first = tonumber(args[1])
  if redis.call('LLEN', keys[2]) ~= first then return 0 end
  for i = 2, #args do
    if redis.call('HEXISTS', keys[1], args[i]) == 1 then return 0 end
  end
  for i = 2, #args do
    redis.call('HSET', keys[1], args[i], string.format('%d', first + i - 2))
    redis.call('RPUSH', keys[2], args[i])
  end
  return 1
end
