-- Send dead letters back to the queue, oldest first, up to a time of death.
-- KEYS[1] <P>meta
-- ARGV[1] latest time of death (ms, '' for now), [2] most tasks to move (int, <= 100)
-- ARGV[3] token of this call (text)
-- Returns: tasks moved, the time in ms that '' stood for
-- Transitions: dead_letter -> pending
-- Emits: task.queued
-- Flags: refused when memory is full
local before = tonumber(ARGV[1]) or now
local ids = redis.call('ZRANGEBYSCORE', DEAD, '-inf', before, 'LIMIT', 0,
  math.min(100, tonumber(ARGV[2])))
for _, id in ipairs(ids) do
  local key = task_key(id)
  local t = redis.call('HMGET', key, 's', 'y', 'm', 'q', 'p', 'c')
  if t[1] == 'd' then
    restart(id, key, t, ARGV[3])
  else
    redis.call('ZREM', DEAD, id)
    count('orphans')
  end
end
finish()
return { #ids, before }
