-- compact_rows: replace the read prefix of rows by its sums and bump their generation; what was appended since the read stays.
-- KEYS    rows, R of them
-- ARGV    1: R records of 16 bytes: generation that was read u32, bytes that were read u32 (header included), new header (8 bytes);
--         2..: the new body of each row
-- RETURNS R u32: new row length in bytes, 0 where the row was left alone (gone, another generation, or shorter than was read)
-- COST    O(rows + bytes of the rows)
local function compact_rows(keys, args)
  local plan, lengths = args[1], {}
  if #plan ~= 16 * #keys or #args ~= #keys + 1 then return redis.error_reply('ERR compact_rows: the plan does not fit the rows') end
  for i = 1, #keys do
    local at, length = 16 * i - 15, 0
    if redis.call('GETRANGE', keys[i], 0, 3) == string.sub(plan, at, at + 3) then
      local rest = redis.call('GETRANGE', keys[i], struct.unpack('<I4', plan, at + 4) - 1, -1)
      if rest ~= '' then
        local row = string.sub(plan, at + 8, at + 15) .. args[i + 1] .. string.sub(rest, 2)
        redis.call('SET', keys[i], row)
        length = #row
      end
    end
    lengths[i] = struct.pack('<I4', length)
  end
  return table.concat(lengths)
end
