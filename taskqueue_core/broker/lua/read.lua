-- Read tasks whole, as they are at one moment; another owner's task is answered as a missing one.
-- KEYS[1] <P>meta
-- KEYS[2 ...] <P>t:<id>
-- ARGV[1 ...] one a task: owner (name, '' for any)
-- Returns: per task the hash's fields and values, body or '', result or error or ''
-- Flags: no-writes
local tasks = {}
for i = 2, #KEYS do
  local id, owner = string.sub(KEYS[i], #P + 3), ARGV[i - 1]
  local fields = redis.call('HGETALL', KEYS[i])
  local names = {}
  for at = 1, #fields, 2 do names[fields[at]] = fields[at + 1] end
  -- Its body is not even read, so that it takes no more time than a missing one.
  if owner ~= '' and names.O ~= owner then fields, names = {}, {} end
  local body, value = names.b or '', names.v or ''
  if #fields > 0 and not names.b then body = redis.call('GET', body_key(id)) or '' end
  if names.V == '1' then value = redis.call('GET', result_key(id)) or '' end
  tasks[i - 1] = { fields, body, value }
end
return tasks
