-- Makes a grant live, again or with a later end. A grant that was ended stays ended.
-- KEYS  standing of the principal · set of principals
-- ARGV  principal · grant id · grant as JSON · expires · last used · uses left or '' · how many grants a principal may hold · bytes carried or ''
-- Gives put, ended, over or full.

local standing, principals = KEYS[1], KEYS[2]
local principal, id, json, expires, used, left, most, carried = unpack(ARGV)
local now = clock()
local fields = read(standing)

if fields['ended:' .. id] then return 'ended' end
if tonumber(expires) <= now then return 'over' end
if not fields['grant:' .. id] then
  local live = 0
  for _, other in ipairs(grant_ids(fields)) do
    if tonumber(fields['expires:' .. other]) > now then live = live + 1 end
  end
  if live >= tonumber(most) then return 'full' end
  redis.call('HSET', standing, 'grant:' .. id, json)
end

redis.call('HSET', standing, 'expires:' .. id, whole(math.max(tonumber(expires), tonumber(fields['expires:' .. id] or 0))))
redis.call('HSET', standing, 'used:' .. id, whole(math.max(tonumber(used), tonumber(fields['used:' .. id] or 0))))
if left ~= '' then
  redis.call('HSET', standing, 'left:' .. id, whole(math.min(tonumber(left), tonumber(fields['left:' .. id] or left))))
end
if carried ~= '' then
  local most_carried = math.max(tonumber(carried), tonumber(fields['carried:' .. id] or 0))
  redis.call('HSET', standing, 'carried:' .. id, whole(most_carried))
end
redis.call('SADD', principals, principal)
tidy(standing, now)
return 'put'
