-- await_lists: note that users wait for a list, and how often that was noted, so that a list that is being made now settles nothing.
-- KEYS    1: set of the users who wait for a list; 2: hash user id -> how often that was noted since they last waited for none
-- ARGV    user ids
-- RETURNS nil
-- COST    O(users)
local function await_lists(keys, args)
  for i = 1, #args do
    redis.call('SADD', keys[1], args[i])
    redis.call('HINCRBY', keys[2], args[i], 1)
  end
  return nil
end
