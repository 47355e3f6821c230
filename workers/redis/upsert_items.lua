-- upsert_items: store catalogue records of one item group; of one source partition the newest offset wins, another partition overwrites.
--         What is stored under the number of another item, by a writer that had not noticed that the numbering was lost, never wins.
-- KEYS    1: the group's hash item number -> `partition:offset:` + JSON (nothing after the prefix: removed)
-- ARGV    four for each record: item number, partition, source offset, JSON or '' to remove
-- RETURNS a string of one letter a record: '1' it is what is stored now, '0' something newer was there
-- COST    O(records + bytes)
local function is_of_another_item(stored, content)
  local read, there = pcall(cjson.decode, string.match(stored, '^%d+:%d+:(.*)$') or '')
  local good, here = pcall(cjson.decode, content)
  return read and good and type(there) == 'table' and type(here) == 'table' and there.item_id ~= here.item_id
end

local function upsert_items(keys, args)
  local flags = {}
  for at = 1, #args, 4 do
    local number, partition, source_offset = args[at], args[at + 1], args[at + 2]
    local stored = redis.call('HGET', keys[1], number)
    if is_older(stored, partition, source_offset) and not is_of_another_item(stored, args[at + 3]) then
      flags[#flags + 1] = '0'
    else
      redis.call('HSET', keys[1], number, partition .. ':' .. source_offset .. ':' .. args[at + 3])
      flags[#flags + 1] = '1'
    end
  end
  return table.concat(flags)
end
