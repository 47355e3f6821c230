-- rows_at: rows of one item group, and how far the group has applied each partition, of one moment.
-- KEYS    1: the group's watermark hash; 2..: rows
-- ARGV    none
-- RETURNS { { field, value, ... } of the hash, each row or false ... }
-- COST    O(partitions + bytes returned)
local function rows_at(keys, args)
  local reply = { redis.call('HGETALL', keys[1]) }
  for i = 2, #keys do reply[i] = redis.call('GET', keys[i]) end
  return reply
end
