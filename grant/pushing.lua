-- A push is about to be let go: until its outcome is known, nobody can say where its refs stand.
-- KEYS  tips of the repository
-- ARGV  operation · most refs · milliseconds to keep them · refs …
-- A field is a ref; its value '<since> <id> <operation>', '-' for an id nobody knows and for no push under way.

local tips = KEYS[1]
local operation, most, keep = ARGV[1], tonumber(ARGV[2]), ARGV[3]
for i = 4, #ARGV do
  local ref = ARGV[i]
  local value = redis.call('HGET', tips, ref)
  local since, id, other = string.match(value or '0 - -', '^(%d+) (%S+) (%S+)$')
  -- Two at a time: if this one is turned away, it is still not known what the other did.
  if other ~= '-' then since, id = '0', '-' end
  -- Which of them goes does not matter: it is remembered again when it is pushed to.
  if not value and redis.call('HLEN', tips) >= most then redis.call('HDEL', tips, redis.call('HRANDFIELD', tips)) end
  redis.call('HSET', tips, ref, since .. ' ' .. id .. ' ' .. operation)
end
redis.call('PEXPIRE', tips, keep)
return 1
