-- Shared by the functions below; loaded first. Registers nothing.
-- A watermark is stored as `topic id:last applied offset`; the topic id may itself hold colons. Offsets are below 2^53, so that a double holds
-- them exactly; they are written as the text that came in, because tostring(1e15) is not.

local function split_watermark(stored)
  local topic_id, last = string.match(stored, '^(.*):(-?%d+)$')
  if not topic_id then error('watermark is not "topic id:offset"') end
  return topic_id, tonumber(last)
end

-- `partition:offset:` before a value that the newest source offset wins.
local function is_older(stored, partition, source_offset)
  if not stored then return false end
  local stored_partition, stored_offset = string.match(stored, '^(%d+):(%d+):')
  if not stored_partition then error('value has no "partition:offset:" prefix') end
  return stored_partition == partition and tonumber(source_offset) < tonumber(stored_offset)
end
