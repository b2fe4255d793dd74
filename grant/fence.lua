-- The fence says whether this very run of this server has heard everything that was revoked. It holds the run's id when
-- so; after a restart, a failover or a flush it does not, and every ask is refused until the control plane has put back
-- what it knows. `confirm` fails when the server or its data changed since `doubt`.
-- KEYS  fence
-- ARGV  doubt | confirm | read · the ticket
-- Gives 1 or 0.

local fence = KEYS[1]
local verb, ticket = unpack(ARGV)
local run = run_id()
local mark = 'restoring ' .. (ticket or '') .. ' ' .. run
if verb == 'doubt' then
  redis.call('SET', fence, mark)
  return 1
end
local value = redis.call('GET', fence)
if verb == 'read' then return value == run and 1 or 0 end
if value ~= mark then return 0 end
redis.call('SET', fence, run)
return 1
