-- A push has ended: where it left its refs, unless another was let go after it, whose end will tell.
-- KEYS  tips of the repository
-- ARGV  operation · then ref, id … : '=' where the host turned it away, '-' where it is gone
-- A field is as in pushing.lua.

local tips, operation = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for i = 2, #ARGV, 2 do
  local ref, id = ARGV[i], ARGV[i + 1]
  local since, before, by = string.match(redis.call('HGET', tips, ref) or '', '^(%d+) (%S+) (%S+)$')
  if by == operation then
    if id == '=' then id = before else since = now end
    if id == '-' then
      redis.call('HDEL', tips, ref)
    else
      redis.call('HSET', tips, ref, since .. ' ' .. id .. ' -')
    end
  elseif by == '-' and id ~= '=' then
    -- Another ended first, or this one's beginning was never heard of.
    redis.call('HDEL', tips, ref)
  end
end
return 1
