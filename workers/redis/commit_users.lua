-- commit_users: write one partition's users and move its watermark, if the watermark is still what the writer read.
-- KEYS    1: the partition's watermark; 2: set of the users whose list is owed; 3: the partition's event time; 4: hash user id -> how often
--         a list was asked for; then U rows of users, of what was shown to them and of what they bought, then A duplicate chunks to append
--         to, then keys to delete: duplicate chunks, and all rows of users who are erased
-- ARGV    1: topic id; 2: expected last applied offset (-1: none); 3: new last applied offset; 4: newest event time in seconds (0: none
--         counts; what is stored only grows); 5: U; 6: A; 7: E; then U values, A appendices, E ids of users who are erased and wait for no
--         list any more, then ids of users whose list is owed
-- RETURNS nil when committed, else the stored watermark ('' when there is none) and nothing is written
-- COST    O(U + E + bytes)
local function commit_users(keys, args)
  local stored = redis.call('GET', keys[1])
  local expected = args[2] ~= '-1' and args[1] .. ':' .. args[2]
  if stored ~= expected then return stored or '' end

  local n_users, n_appends, n_erased = tonumber(args[5]), tonumber(args[6]), tonumber(args[7])
  local call = redis.call
  for i = 1, n_users do
    call('SET', keys[4 + i], args[7 + i])
  end
  for i = n_users + 1, n_users + n_appends do
    redis.call('APPEND', keys[4 + i], args[7 + i])
  end
  for i = n_users + n_appends + 5, #keys do
    redis.call('UNLINK', keys[i])
  end
  local first_erased = 8 + n_users + n_appends
  for i = first_erased, first_erased + n_erased - 1 do
    call('SREM', keys[2], args[i])
    call('HDEL', keys[4], args[i])
  end
  for i = first_erased + n_erased, #args do
    call('SADD', keys[2], args[i])
  end
  if args[3] ~= '-1' then
    redis.call('SET', keys[1], args[1] .. ':' .. args[3])
    if tonumber(args[4]) > tonumber(redis.call('GET', keys[3]) or -1) then redis.call('SET', keys[3], args[4]) end
  end
  return nil
end
