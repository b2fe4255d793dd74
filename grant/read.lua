-- A principal's standing, for lists and for the sweep. Changes nothing.
-- KEYS  standing of the principal
-- Gives {now, lock or ''} and then per grant its JSON, expires, last used, left or '', state.

local now = clock()
local fields = read(KEYS[1])
local out = { whole(now), fields.lock or '' }
for _, id in ipairs(grant_ids(fields)) do
  local json = fields['grant:' .. id]
  out[#out + 1] = json
  out[#out + 1] = fields['expires:' .. id]
  out[#out + 1] = fields['used:' .. id]
  out[#out + 1] = fields['left:' .. id] or ''
  out[#out + 1] = state(cjson.decode(json), fields, now)
end
return out
