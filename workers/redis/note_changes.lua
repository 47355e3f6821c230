-- note_changes: bump the catalogue version and score the changed items with it.
-- KEYS    1: the version counter; 2: sorted set item number scored by version
-- ARGV    item numbers (at least one)
-- RETURNS the new version
-- COST    O(items * log(catalogue))
local function note_changes(keys, args)
  local version = redis.call('INCR', keys[1])
  for i = 1, #args do
    redis.call('ZADD', keys[2], version, args[i])
  end
  return version
end
