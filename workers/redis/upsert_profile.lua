-- upsert_profile: store one user's profile, and the id that the user goes on as; of one source partition the newest offset wins, another
--         partition overwrites.
-- KEYS    1: the profile, `partition:offset:` + JSON; 2: hash id -> the id that it goes on as ('' for none), a line feed, the one before that;
--         3: set of the users who wait for a list; 4: hash user id -> how often a list was asked for
-- ARGV    1: partition; 2: source offset; 3: JSON, or '' to remove; 4: seconds that the mark of a removal is kept against late writers;
--         5: user id; 6: the id that the user goes on as, '' for none; 7: '1' if the user waits for a list now
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
  local went_on = string.match(redis.call('HGET', keys[2], args[5]) or '', '^([^\n]*)')
  if went_on ~= args[6] then redis.call('HSET', keys[2], args[5], args[6] .. '\n' .. went_on) end
  if args[7] == '1' or (went_on ~= args[6] and went_on ~= '') then
    redis.call('SADD', keys[3], args[5])
    redis.call('HINCRBY', keys[4], args[5], 1)
  end
  return 1
end
