-- Send dead letters back to the queue, a step at a time, oldest first, up to a time of death.
-- KEYS[1] <P>meta
-- ARGV[1] latest time of death (ms, '' for now), [2] most to look at (int, <= 100)
-- ARGV[3] token of this call (text), [4] score and [5] id to go on behind (texts, '' to begin)
-- ARGV[6] type (name), [7] queue (name), [8] reason (text), [9] part of the error (text); '' for any
-- Returns: dead letters looked at, the time in ms that '' stood for, tasks moved, score and id of the
--   last one looked at
-- Transitions: dead_letter -> pending
-- Emits: task.queued
-- Flags: refused when memory is full
local before, moved, last = tonumber(ARGV[1]) or now, 0, 0
local ids, scores = step_up(DEAD, ARGV[4], ARGV[5], math.min(100, tonumber(ARGV[2])))
for i, id in ipairs(ids) do
  if tonumber(scores[i]) > before then break end
  last = i
  local key = task_key(id)
  local t = redis.call('HMGET', key, unpack(LOOKED_AT))
  if t[1] ~= 'd' then
    redis.call('ZREM', DEAD, id)
    count('orphans')
  elseif fits(id, t, ARGV[6], ARGV[7], ARGV[8], ARGV[9]) then
    restart(id, key, { t[1], t[2], t[5], t[3], t[4], t[6] }, ARGV[3])
    moved = moved + 1
  end
end
finish()
return { last, before, moved, scores[last] or '', ids[last] or '' }
