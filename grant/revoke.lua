-- Ends a grant for good and tells every proxy. Also when it is not here: its put may still be on the way.
-- KEYS  standing of the principal · set of principals
-- ARGV  principal · grant id · until when to remember at least, or '' · channel · notice
-- Gives 1 when it was here, otherwise 0.

local standing, principals = KEYS[1], KEYS[2]
local principal, id, remember, channel, notice = unpack(ARGV)
local now = clock()
local expires = tonumber(redis.call('HGET', standing, 'expires:' .. id) or 0)
-- Nobody knows its end: longer than any window there is.
if remember == '' then remember = expires > 0 and expires or now + 400 * REMEMBER end

local ended = tonumber(redis.call('HGET', standing, 'ended:' .. id) or 0)
local here = redis.call('HDEL', standing, 'grant:' .. id)
redis.call('HDEL', standing, 'expires:' .. id, 'used:' .. id, 'left:' .. id)
redis.call('HSET', standing, 'ended:' .. id, whole(math.max(tonumber(remember) + REMEMBER, expires + REMEMBER, now + REMEMBER, ended)))
redis.call('SADD', principals, principal)
tidy(standing, now)
redis.call('PUBLISH', channel, notice)
return here
