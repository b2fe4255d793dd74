-- Whether a repository is meant by a pattern: pattern.ts says what patterns mean, this is the same in here.
-- Not Lua's own patterns: those go back and forth, and one `*a*a*a*a…b` would hold up every proxy, since Redis does one
-- thing at a time. Here no pattern costs more than its length times the name's.

local function split(name)
  local parts = {}
  for part in string.gmatch(name .. '/', '([^/]*)/') do parts[#parts + 1] = part end
  return parts
end

local function matches_segment(pattern, name)
  local p, n, star, resume = 1, 1, nil, 1
  while n <= #name do
    local wanted = string.byte(pattern, p)
    if wanted == 42 then -- *
      star, resume, p = p, n, p + 1
    elseif wanted == string.byte(name, n) then
      p, n = p + 1, n + 1
    elseif star then
      resume = resume + 1
      p, n = star + 1, resume
    else
      return false
    end
  end
  while string.byte(pattern, p) == 42 do p = p + 1 end
  return p == #pattern + 1
end

local function matches(pattern, name)
  local p, n, star, resume = 1, 1, nil, 1
  while n <= #name do
    local wanted = pattern[p]
    if wanted == '**' then
      star, resume, p = p, n, p + 1
    elseif wanted and matches_segment(wanted, name[n]) then
      p, n = p + 1, n + 1
    elseif star then
      resume = resume + 1
      p, n = star + 1, resume
    else
      return false
    end
  end
  return p == #pattern + 1
end

-- A name with an empty, `.` or `..` segment is no name and matches nothing.
local function repository_name(repository)
  local parts = split(repository)
  for _, part in ipairs(parts) do
    if part == '' or part == '.' or part == '..' then return nil end
  end
  return parts
end
