-- commit_users: write one partition's users and move its watermark, if the watermark is still what the writer read.
-- KEYS    1: the partition's watermark; 2: set of the users whose list is owed; 3: the partition's event time; then U rows of users,
--         of what was shown to them and of what they bought, then A duplicate chunks to append to, then duplicate chunks to delete
-- ARGV    1: topic id; 2: expected last applied offset (-1: none); 3: new last applied offset; 4: newest event time in seconds (0: none
--         counts; what is stored only grows); 5: U; 6: A; then U values, then A appendices, then ids of users whose list is owed
-- RETURNS nil when committed, else the stored watermark ('' when there is none) and nothing is written
-- COST    O(U + bytes)
local function commit_users(keys, args)
  local stored = redis.call('GET', keys[1])
  local expected = args[2] ~= '-1' and args[1] .. ':' .. args[2]
  if stored ~= expected then return stored or '' end

  local n_users, n_appends = tonumber(args[5]), tonumber(args[6])
  local call = redis.call
  for i = 1, n_users do
    call('SET', keys[3 + i], args[6 + i])
  end
  for i = n_users + 1, n_users + n_appends do
    redis.call('APPEND', keys[3 + i], args[6 + i])
  end
  for i = n_users + n_appends + 4, #keys do
    redis.call('UNLINK', keys[i])
  end
  for i = 7 + n_users + n_appends, #args do
    call('SADD', keys[2], args[i])
  end
  if args[3] ~= '-1' then
    redis.call('SET', keys[1], args[1] .. ':' .. args[3])
    if tonumber(args[4]) > tonumber(redis.call('GET', keys[3]) or -1) then redis.call('SET', keys[3], args[4]) end
  end
  return nil
end
