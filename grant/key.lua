-- A registered public key: `put` and `drop` it, or `find` whose it is. Whatever is put, a dropped key is not found.
-- KEYS  the key's entry
-- ARGV  put · principal · expires  |  drop · '' · expires  |  find
-- Gives the principal and the expiry for find, or nothing.

local entry = KEYS[1]
local verb, principal, expires = unpack(ARGV)
local now = clock()
if verb == 'find' then
  local known = redis.call('HMGET', entry, 'principal', 'expires', 'dropped')
  if not known[1] or known[3] or now >= tonumber(known[2]) then return nil end
  return { known[1], known[2] }
end
if verb == 'drop' then
  redis.call('HSET', entry, 'dropped', '1')
else
  redis.call('HSET', entry, 'principal', principal, 'expires', expires)
end
redis.call('PEXPIREAT', entry, whole(math.max(tonumber(expires), now) + REMEMBER))
return nil
