-- Refuses a credential of a principal, from now on or from a moment to come.
-- KEYS  standing of the principal · set of principals
-- ARGV  principal · credential · until when, 0 for ever · from when, 0 at once · channel · notice

local standing, principals = KEYS[1], KEYS[2]
local principal, credential, remember, begins, channel, notice = unpack(ARGV)
local field = 'barred:' .. credential
local before = redis.call('HGET', standing, field)
if before ~= '0' then
  if remember ~= '0' then remember = whole(math.max(tonumber(remember), tonumber(before or 0))) end
  redis.call('HSET', standing, field, remember)
end
-- Only ever earlier: what is refused already stays so.
local from = 'from:' .. credential
local since = before and tonumber(redis.call('HGET', standing, from) or 0) or math.huge
if tonumber(begins) == 0 then
  redis.call('HDEL', standing, from)
elseif tonumber(begins) < since then
  redis.call('HSET', standing, from, begins)
end
redis.call('SADD', principals, principal)
tidy(standing, clock())
redis.call('PUBLISH', channel, notice)
return 1
