-- apply_items: append one micro-batch's records to the rows of one item group, all of it or nothing.
-- KEYS    1: the group's watermark hash; 2: hash item number -> the newest epochs in which the item has a row (u32 each, ascending);
--         3..: the touched rows, R of them (may be none: the watermarks still move)
-- ARGV    1: header of a row that does not exist yet (8 bytes); 2: R u32 ends, cumulative bytes into 3; 3: records of 8 bytes;
--         4: how many item numbers may be in use (kept in the hash as `n`, only growing); then five for each source range: partition, topic id, base, first, last (base: the state the range was derived from)
-- RETURNS { status, lengths, stored watermark or '' of each range ... }; status is 'applied' (lengths: R u32 new row lengths in bytes),
--         'skipped' (all ranges are old), 'straddled', 'gap' (this group lost state below base) or 'topic_changed'; only 'applied' writes
-- COST    O(rows + ranges); records are appended as slices, never looped over
local MOST_EPOCHS = 32 -- an older epoch counts 2^-32 of the newest at most, less than any weight can bring back

local function note_epoch(key, number, epoch)
  local stored, epochs = redis.call('HGET', key, number) or '', {}
  for at = 1, #stored, 4 do
    epochs[#epochs + 1] = struct.unpack('<I4', stored, at)
    if epochs[#epochs] == epoch then return end
  end
  epochs[#epochs + 1] = epoch
  table.sort(epochs)
  local packed = {}
  for at = math.max(1, #epochs - MOST_EPOCHS + 1), #epochs do packed[#packed + 1] = struct.pack('<I4', epochs[at]) end
  redis.call('HSET', key, number, table.concat(packed))
end

local function apply_items(keys, args)
  local n_rows, n_ranges = #keys - 2, (#args - 4) / 5
  local ends, payload = args[2], args[3]
  if #ends ~= 4 * n_rows or n_ranges ~= math.floor(n_ranges) then return redis.error_reply('ERR apply_items: ends do not fit the rows') end

  local reply, n_new, n_old, gap = { '', '' }, 0, 0, false
  for r = 0, n_ranges - 1 do
    local at = 5 + 5 * r
    local stored = redis.call('HGET', keys[1], args[at])
    local topic_id, watermark = args[at + 1], -1
    if stored then topic_id, watermark = split_watermark(stored) end
    reply[r + 3] = stored or ''
    if topic_id ~= args[at + 1] then
      reply[1] = 'topic_changed'
    elseif watermark >= tonumber(args[at + 4]) then
      n_old = n_old + 1
    elseif watermark < tonumber(args[at + 2]) then
      gap = true
    elseif watermark < tonumber(args[at + 3]) then
      n_new = n_new + 1
    end
  end
  if reply[1] ~= '' then return reply end
  if gap then reply[1] = 'gap' return reply end
  if n_old == n_ranges then reply[1] = 'skipped' return reply end
  if n_new ~= n_ranges then reply[1] = 'straddled' return reply end

  local call, sub, pack, unpack = redis.call, string.sub, struct.pack, struct.unpack -- a local is found faster than a global
  local lengths, start = {}, 0
  for i = 1, n_rows do
    local stop = unpack('<I4', ends, 4 * i - 3)
    local slice = sub(payload, start + 1, stop)
    local length = call('APPEND', keys[i + 2], slice)
    if length == stop - start then -- the row is new: its header goes before what was just written
      call('SET', keys[i + 2], args[1] .. slice)
      length = length + #args[1]
      local epoch, number = string.match(keys[i + 2], '}:c:(%d+):(%d+)$')
      if epoch then note_epoch(keys[2], number, tonumber(epoch)) end
    end
    lengths[i] = pack('<I4', length)
    start = stop
  end
  if tonumber(args[4]) > tonumber(redis.call('HGET', keys[1], 'n') or 0) then redis.call('HSET', keys[1], 'n', args[4]) end
  for r = 0, n_ranges - 1 do
    local at = 5 + 5 * r
    redis.call('HSET', keys[1], args[at], args[at + 1] .. ':' .. args[at + 4])
  end
  reply[1], reply[2] = 'applied', table.concat(lengths)
  return reply
end
