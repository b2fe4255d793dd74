-- A principal's standing is one hash, so that it is read, expired and lost as a whole:
--   grant:<id>     the grant as JSON, never changed
--   expires:<id>   the end of its window in milliseconds; an extension moves it
--   used:<id>      when it was last used; at first the start of its window
--   left:<id>      uses left, where they are counted
--   carried:<id>   bytes that went by, where they are counted
--   ended:<id>     it was revoked or released; remembered until then
--   lock           the principal is locked, and this is the reason
--   turn           the version of the last lock or unlock
--   barred:<name>  a credential that was revoked; remembered until then, 0 for ever
--   from:<name>    it is still good until then
-- Every change is one that can come twice or in any order: ends stay, windows only grow, uses only shrink.

local REMEMBER = 86400000

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Numbers go to Redis and back in full; Lua's own way of writing them loses digits after the fourteenth.
local function whole(number)
  return string.format('%.0f', number)
end

-- The server says itself which run of which server it is. What a client believes it is connected to can be out of date.
local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function read(key)
  local flat = redis.call('HGETALL', key)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

local function grant_ids(fields)
  local ids = {}
  for field in pairs(fields) do
    local id = string.match(field, '^grant:(.*)$')
    if id then ids[#ids + 1] = id end
  end
  table.sort(ids)
  return ids
end

-- Whether as many bytes have gone by as may.
local function carried_out(grant, fields)
  local most = grant.bounds and grant.bounds.bytes
  return most and tonumber(fields['carried:' .. grant.id] or 0) >= most
end

-- scheduled, live, expired, idle or used: what a grant is at this moment.
local function state(grant, fields, now)
  if now < grant.starts then return 'scheduled' end
  if now >= tonumber(fields['expires:' .. grant.id]) then return 'expired' end
  if grant.idle and now >= tonumber(fields['used:' .. grant.id]) + grant.idle then return 'idle' end
  if grant.uses and tonumber(fields['left:' .. grant.id] or 0) <= 0 then return 'used' end
  if carried_out(grant, fields) then return 'used' end
  return 'live'
end

-- Drops what is over for good, and lets the whole hash go when nothing in it can matter any more. This only cleans up:
-- whether a grant is live is always decided by state().
local function tidy(key, now)
  local fields = read(key)
  local keep = now + REMEMBER
  for field, value in pairs(fields) do
    local kind, id = string.match(field, '^(%l+):(.*)$')
    if kind == 'expires' then
      if tonumber(value) + REMEMBER < now then
        redis.call('HDEL', key, 'grant:' .. id, 'expires:' .. id, 'used:' .. id, 'left:' .. id, 'carried:' .. id)
      else
        keep = math.max(keep, tonumber(value) + REMEMBER)
      end
    elseif kind == 'ended' or (kind == 'barred' and value ~= '0') then
      if tonumber(value) < now then
        redis.call('HDEL', key, field, 'from:' .. id)
      else
        keep = math.max(keep, tonumber(value))
      end
    elseif kind == 'barred' or field == 'lock' then
      keep = math.huge
    end
  end
  if keep == math.huge then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, whole(keep)) end
end
