-- settle_lists: take users off the set of owed lists, if the partition's watermark is still what the lists were made from, and of these
--         the users for whom no list was asked since.
-- KEYS    1: the partition's watermark; 2: set of the users whose list is owed; 3: hash user id -> how often a list was asked for
-- ARGV    1: topic id; 2: last applied offset that the lists were made from (-1: nothing was applied); 3: U; then U user ids, then how often
--         a list had been asked for each of them before it was made
-- RETURNS 1 when taken off, 0 when the watermark has moved and nothing changed: somebody may owe them another list by now
-- COST    O(users)
local function settle_lists(keys, args)
  local expected, n_users = args[2] ~= '-1' and args[1] .. ':' .. args[2], tonumber(args[3])
  if redis.call('GET', keys[1]) ~= expected then return 0 end
  for i = 4, 3 + n_users do
    if (redis.call('HGET', keys[3], args[i]) or '0') == args[i + n_users] then
      redis.call('SREM', keys[2], args[i])
      redis.call('HDEL', keys[3], args[i])
    end
  end
  return 1
end
