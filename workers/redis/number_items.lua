-- number_items: the numbers of item ids, assigning the next free ones, in the order given, to ids never seen.
-- KEYS    1: hash item id -> number; 2: list number -> item id
-- ARGV    1: how many ids the caller knows by number; 2: the last of those ('' when there is none); 3..: item ids
-- RETURNS one number an id; nil, and nothing changes, when this server does not have what the caller knows: numbers were lost
-- COST    O(ids); the caller bounds how many ids a call carries
local function number_items(keys, args)
  local next_number, numbers = redis.call('LLEN', keys[2]), {}
  local known = tonumber(args[1])
  if known > next_number then return nil end
  if known > 0 and redis.call('LINDEX', keys[2], known - 1) ~= args[2] then return nil end
  for i = 3, #args do
    local number = redis.call('HGET', keys[1], args[i])
    if number then
      numbers[i - 2] = tonumber(number)
    else
      redis.call('HSET', keys[1], args[i], string.format('%d', next_number))
      redis.call('RPUSH', keys[2], args[i])
      numbers[i - 2] = next_number
      next_number = next_number + 1
    end
  end
  return numbers
end
