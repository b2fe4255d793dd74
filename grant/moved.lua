-- A ref was found elsewhere than remembered. Of all who found it one is told 1, and from then on it is remembered there.
-- KEYS  tips of the repository
-- ARGV  ref · where it was remembered · where it was found
-- A field is as in pushing.lua.

local tips = KEYS[1]
local ref, left, found = unpack(ARGV)
local _, id, operation = string.match(redis.call('HGET', tips, ref) or '', '^(%d+) (%S+) (%S+)$')
if id ~= left or operation ~= '-' then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', tips, ref, now .. ' ' .. found .. ' -')
return 1
