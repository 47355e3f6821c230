-- settle_lists: take users off the set of owed lists, if the partition's watermark is still what the lists were made from.
-- KEYS    1: the partition's watermark; 2: set of the users whose list is owed
-- ARGV    1: topic id; 2: last applied offset that the lists were made from; 3..: user ids
-- RETURNS 1 when taken off, 0 when the watermark has moved and nothing changed: somebody may owe them another list by now
-- COST    O(users)
local function settle_lists(keys, args)
  if redis.call('GET', keys[1]) ~= args[1] .. ':' .. args[2] then return 0 end
  for i = 3, #args do
    redis.call('SREM', keys[2], args[i])
  end
  return 1
end
