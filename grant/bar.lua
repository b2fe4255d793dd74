-- Refuses a credential of a principal from now on.
-- KEYS  standing of the principal · set of principals
-- ARGV  principal · credential · until when, 0 for ever · channel · notice

local standing, principals = KEYS[1], KEYS[2]
local principal, credential, remember, channel, notice = unpack(ARGV)
local field = 'barred:' .. credential
local before = redis.call('HGET', standing, field)
if before ~= '0' then
  if remember ~= '0' then remember = whole(math.max(tonumber(remember), tonumber(before or 0))) end
  redis.call('HSET', standing, field, remember)
end
redis.call('SADD', principals, principal)
tidy(standing, clock())
redis.call('PUBLISH', channel, notice)
return 1
