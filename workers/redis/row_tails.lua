-- row_tails: what was appended to rows since a reader last saw them.
-- KEYS    rows, R of them
-- ARGV    1: R records of 8 bytes: generation u32, known length u32 (bytes, header included)
-- RETURNS { flags, value of each row ... }; flags is a string of R letters: 't' the value is what follows the known length, 'f' the generation
--         changed or the row is shorter than known and the value is the whole row, '-' the row is gone and the value is ''
-- COST    O(rows + bytes returned)
local function row_tails(keys, args)
  local known, reply, flags = args[1], { '' }, {}
  if #known ~= 8 * #keys then return redis.error_reply('ERR row_tails: known lengths do not fit the rows') end
  local call, sub, unpack = redis.call, string.sub, struct.unpack
  for i = 1, #keys do
    local flag, value = 'f', false
    if call('GETRANGE', keys[i], 0, 3) == sub(known, 8 * i - 7, 8 * i - 4) then
      local length = unpack('<I4', known, 8 * i - 3)
      -- from one byte before: an empty answer then tells a row that lost its end from one with nothing new
      local tail = call('GETRANGE', keys[i], length - 1, -1)
      if tail ~= '' then flag, value = 't', sub(tail, 2) end
    end
    if not value then
      value = call('GET', keys[i])
      if not value then flag, value = '-', '' end
    end
    flags[i], reply[i + 1] = flag, value
  end
  reply[1] = table.concat(flags)
  return reply
end
