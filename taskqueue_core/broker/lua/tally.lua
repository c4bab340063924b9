-- Count the dead letters that are wanted by type, reason and error, a step at a time, newest first.
-- KEYS[1] <P>meta
-- ARGV[1] most to look at (int, <= 100), [2] score and [3] id to go on behind (texts, '' to begin)
-- ARGV[4] type (name), [5] queue (name), [6] reason (text), [7] part of the error (text); '' for any
-- Returns: how many were looked at, score and id of the last one, the groups, five each: type, reason,
--   at most 256 bytes of the error, count, latest death in ms
-- Flags: no-writes
local groups, order = {}, {}

local function count_in(id, t, died)
  local text = string.sub(error_of(id, t), 1, 256)
  local name = table.concat({ t[2], t[7] or '', text }, '\0')
  if not groups[name] then
    groups[name] = { t[2], t[7] or '', text, 0, tonumber(died) }
    order[#order + 1] = groups[name]
  end
  groups[name][4] = groups[name][4] + 1
end

local ids, scores = step_down(DEAD, ARGV[2], ARGV[3], math.min(100, tonumber(ARGV[1])))
for i, id in ipairs(ids) do
  local t = redis.call('HMGET', task_key(id), unpack(LOOKED_AT))
  if t[1] == 'd' and fits(id, t, ARGV[4], ARGV[5], ARGV[6], ARGV[7]) then
    count_in(id, t, scores[i])
  end
end
return { #ids, scores[#ids] or '', ids[#ids] or '', order }
