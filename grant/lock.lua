-- Locks or unlocks a principal, unless a later word on it has already been heard.
-- KEYS  standing of the principal · set of principals
-- ARGV  principal · reason, or '' to unlock · version · channel · notice
-- Gives 1 when it was done, 0 when a later version stands.

local standing, principals = KEYS[1], KEYS[2]
local principal, reason, version, channel, notice = unpack(ARGV)
if tonumber(redis.call('HGET', standing, 'turn') or 0) > tonumber(version) then return 0 end
redis.call('HSET', standing, 'turn', version)
if reason == '' then
  redis.call('HDEL', standing, 'lock')
else
  redis.call('HSET', standing, 'lock', reason)
  redis.call('SADD', principals, principal)
end
tidy(standing, clock())
if reason ~= '' then redis.call('PUBLISH', channel, notice) end
return 1
