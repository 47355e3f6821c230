-- forget_before: forget as which ids users went on before, once those have been noted as waiting for a list.
-- KEYS    1: hash id -> the id that it goes on as ('' for none), a line feed, the one before that
-- ARGV    pairs of a user id and the id to forget
-- RETURNS nil
-- COST    O(users)
local function forget_before(keys, args)
  for i = 1, #args, 2 do
    local merged_into, before = string.match(redis.call('HGET', keys[1], args[i]) or '', '^([^\n]*)\n(.*)$')
    if before == args[i + 1] then
      if merged_into == '' then
        redis.call('HDEL', keys[1], args[i])
      else
        redis.call('HSET', keys[1], args[i], merged_into .. '\n')
      end
    end
  end
  return nil
end
