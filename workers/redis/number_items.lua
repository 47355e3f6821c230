-- number_items: the numbers of item ids, assigning the next free ones, in the order given, to ids never seen.
-- KEYS    1: hash item id -> number; 2: list number -> item id
-- ARGV    item ids
-- RETURNS one number an id
-- COST    O(ids); the caller bounds how many ids a call carries
local function number_items(keys, args)
  local next_number, numbers = redis.call('LLEN', keys[2]), {}
  for i = 1, #args do
    local number = redis.call('HGET', keys[1], args[i])
    if number then
      numbers[i] = tonumber(number)
    else
      redis.call('HSET', keys[1], args[i], string.format('%d', next_number))
      redis.call('RPUSH', keys[2], args[i])
      numbers[i] = next_number
      next_number = next_number + 1
    end
  end
  return numbers
end
