-- switch_generation: make another generation of the state the active one, if the active one is what the caller thinks.
-- KEYS    1: the pointer, a whole number; missing: 0
-- ARGV    1: generation expected to be active; 2: generation to make active
-- RETURNS 1 if switched, 0 if another one is active
-- COST    O(1)
local function switch_generation(keys, args)
  if (redis.call('GET', keys[1]) or '0') ~= args[1] then return 0 end
  redis.call('SET', keys[1], args[2])
  return 1
end
