-- Moves the end of a window that is not over.
-- KEYS  standing of the principal
-- ARGV  grant id · expires
-- Gives extended, ended (revoked, released, expired, idle or used up) or missing.

local standing = KEYS[1]
local id, expires = unpack(ARGV)
local now = clock()
local fields = read(standing)

if fields['ended:' .. id] then return 'ended' end
if not fields['grant:' .. id] then return 'missing' end
local is = state(cjson.decode(fields['grant:' .. id]), fields, now)
if is ~= 'live' and is ~= 'scheduled' then return 'ended' end
redis.call('HSET', standing, 'expires:' .. id, whole(math.max(tonumber(expires), tonumber(fields['expires:' .. id]))))
tidy(standing, now)
return 'extended'
