-- upsert_items: store catalogue records of one item group; of one source partition the newest offset wins, another partition overwrites.
-- KEYS    1: the group's hash item number -> `partition:offset:` + JSON (nothing after the prefix: removed)
-- ARGV    four for each record: item number, partition, source offset, JSON or '' to remove
-- RETURNS a string of one letter a record: '1' it is what is stored now, '0' something newer was there
-- COST    O(records + bytes)
local function upsert_items(keys, args)
  local flags = {}
  for at = 1, #args, 4 do
    local number, partition, source_offset = args[at], args[at + 1], args[at + 2]
    if is_older(redis.call('HGET', keys[1], number), partition, source_offset) then
      flags[#flags + 1] = '0'
    else
      redis.call('HSET', keys[1], number, partition .. ':' .. source_offset .. ':' .. args[at + 3])
      flags[#flags + 1] = '1'
    end
  end
  return table.concat(flags)
end
