-- One attempt's question, see Ask and Answer in grant.ts.
-- KEYS  fence · standing of the principal · set of the grants this operation has used
-- ARGV  the ask as JSON
-- Gives {kind, now} and then: for live and spent per grant its JSON, expires, left or '', carried or ''; for locked the reason; for
-- barred the credential.

local fence, standing, counted_key = KEYS[1], KEYS[2], KEYS[3]
local ask = cjson.decode(ARGV[1])
local now = clock()

if redis.call('GET', fence) ~= run_id() then return { 'unconfirmed', whole(now) } end

local fields = read(standing)
-- Whatever the answer will be: these bytes have gone by.
if ask.carried then
  for _, id in ipairs(ask.carried.grants) do
    local name = 'carried:' .. id
    if fields['grant:' .. id] then
      fields[name] = whole(redis.call('HINCRBY', standing, name, whole(ask.carried.bytes)))
    end
  end
end
if fields.lock then return { 'locked', whole(now), fields.lock } end
for _, credential in ipairs(ask.credentials) do
  local remembered = tonumber(fields['barred:' .. credential])
  local begun = now >= tonumber(fields['from:' .. credential] or 0)
  if remembered and begun and (remembered == 0 or now < remembered) then
    return { 'barred', whole(now), credential }
  end
end

-- What this operation has already used stays live for it, though nothing may be left for another.
local counted = {}
if ask.consume then
  for _, id in ipairs(redis.call('SMEMBERS', counted_key)) do counted[id] = true end
end

local wanted = {}
for _, action in ipairs(ask.actions) do wanted[action] = true end
local name = repository_name(ask.repository)

local function fits(grant)
  if not name or not matches(split(grant.repository), name) then return false end
  for _, action in ipairs(grant.actions) do
    if wanted[action] then return true end
  end
  return false
end

local live, found = {}, {}
for _, id in ipairs(grant_ids(fields)) do
  local grant = cjson.decode(fields['grant:' .. id])
  local is = state(grant, fields, now)
  if (is == 'live' or (is == 'used' and counted[id] and not carried_out(grant, fields))) and fits(grant) then
    live[#live + 1] = id
    found[id] = true
  end
end

local function answer(kind)
  local out = { kind, whole(now) }
  for _, id in ipairs(live) do
    out[#out + 1] = fields['grant:' .. id]
    out[#out + 1] = fields['expires:' .. id]
    out[#out + 1] = fields['left:' .. id] or ''
    out[#out + 1] = fields['carried:' .. id] or ''
  end
  return out
end

if ask.consume then
  for _, id in ipairs(ask.consume.grants) do
    if not found[id] then return answer('spent') end
  end
  local last = now
  for _, id in ipairs(ask.consume.grants) do
    if not counted[id] then
      counted[id] = true
      if fields['left:' .. id] then
        fields['left:' .. id] = whole(redis.call('HINCRBY', standing, 'left:' .. id, -1))
      end
      redis.call('SADD', counted_key, id)
    end
    last = math.max(last, tonumber(fields['expires:' .. id]))
  end
  if #ask.consume.grants > 0 then redis.call('PEXPIREAT', counted_key, whole(last + REMEMBER)) end
end

-- Written for grants without an idle end too: a server cut off from its replicas (min-replicas-to-write) then refuses the
-- write, and with it the attempt, instead of answering from a past in which nothing was revoked.
for _, id in ipairs(live) do redis.call('HSET', standing, 'used:' .. id, whole(now)) end
return answer('live')
