-- upsert_profile: store one user's profile; of one source partition the newest offset wins, another partition overwrites.
-- KEYS    1: the profile, `partition:offset:` + JSON
-- ARGV    1: partition; 2: source offset; 3: JSON, or '' to remove; 4: seconds that the mark of a removal is kept against late writers
-- RETURNS 1 if it is what is stored now, 0 if something newer was there
-- COST    O(bytes)
local function upsert_profile(keys, args)
  if is_older(redis.call('GET', keys[1]), args[1], args[2]) then return 0 end
  local prefix = args[1] .. ':' .. args[2] .. ':'
  if args[3] == '' then
    redis.call('SET', keys[1], prefix, 'EX', args[4])
  else
    redis.call('SET', keys[1], prefix .. args[3])
  end
  return 1
end
