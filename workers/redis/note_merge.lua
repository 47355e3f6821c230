-- note_merge: note that a record names an account as what an id goes on as; of an account the newest notes are kept.
-- KEYS    1: hash account -> lines `record time in ms:id`, newest first, ids of the same time in their order
-- ARGV    1: account; 2: id; 3: record time in ms; 4: how many notes are kept
-- RETURNS nil
-- COST    O(notes of the account)
local function note_merge(keys, args)
  local notes, newest = {}, args[3]
  for at, id in string.gmatch(redis.call('HGET', keys[1], args[1]) or '', '(%-?%d+):([^\n]+)') do
    if id ~= args[2] then
      notes[#notes + 1] = { at, id }
    elseif tonumber(at) > tonumber(newest) then
      newest = at
    end
  end
  notes[#notes + 1] = { newest, args[2] }
  table.sort(notes, function(one, other)
    local at, than = tonumber(one[1]), tonumber(other[1])
    return at > than or (at == than and one[2] < other[2])
  end)
  local lines = {}
  for i = 1, math.min(#notes, tonumber(args[4])) do lines[i] = notes[i][1] .. ':' .. notes[i][2] end
  redis.call('HSET', keys[1], args[1], table.concat(lines, '\n'))
  return nil
end
