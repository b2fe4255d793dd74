-- A registered public key: `put` and `drop` it, or `find` whose it is. Whatever is put, a dropped key is not found.
-- KEYS  the key's entry
-- ARGV  put · principal · expires · sign-in or ''  |  drop · '' · expires  |  find
-- Gives the principal, the expiry and the sign-in for find, or nothing.

local entry = KEYS[1]
local verb, principal, expires, signin = unpack(ARGV)
local now = clock()
if verb == 'find' then
  local known = redis.call('HMGET', entry, 'principal', 'expires', 'dropped', 'signin')
  if not known[1] or known[3] or now >= tonumber(known[2]) then return nil end
  return { known[1], known[2], known[4] or '' }
end
if verb == 'drop' then
  redis.call('HSET', entry, 'dropped', '1')
else
  redis.call('HSET', entry, 'principal', principal, 'expires', expires, 'signin', signin or '')
end
redis.call('PEXPIREAT', entry, whole(math.max(tonumber(expires), now) + REMEMBER))
return nil
