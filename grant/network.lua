-- Locks a network out or lets it in again, unless a later word on it has already been heard.
-- KEYS  the networks: each with the version of the last word on it, a space, and the reason, or nothing when it is let in
-- ARGV  network · reason, or '' to let it in · version · channel · notice
-- Gives 1 when it was done, 0 when a later version stands.

local networks = KEYS[1]
local network, reason, version, channel, notice = unpack(ARGV)
local heard = string.match(redis.call('HGET', networks, network) or '', '^%d+')
if tonumber(heard or 0) > tonumber(version) then return 0 end
redis.call('HSET', networks, network, version .. ' ' .. reason)
redis.call('PUBLISH', channel, notice)
return 1
