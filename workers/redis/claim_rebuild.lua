-- claim_rebuild: be the only one that rebuilds a namespace, for a while.
-- KEYS    1: the claim, its owner's name
-- ARGV    1: owner; 2: how long, in ms (0: give it back)
-- RETURNS 1 if it is the owner's now (or was, and is given back), 0 if it is another's
-- COST    O(1)
local function claim_rebuild(keys, args)
  local owner = redis.call('GET', keys[1])
  if owner and owner ~= args[1] then return 0 end
  if args[2] == '0' then
    redis.call('UNLINK', keys[1])
  else
    redis.call('SET', keys[1], args[1], 'PX', args[2])
  end
  return 1
end
