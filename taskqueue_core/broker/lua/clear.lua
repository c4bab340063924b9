-- Give dead letters up: they become failed and are deleted after the retention time.
-- KEYS[1] <P>meta
-- ARGV[1] latest time of death (ms, '' for now), [2] most tasks to move (int, <= 100)
-- Returns: tasks moved, the time in ms that '' stood for
-- Transitions: dead_letter -> failed
-- Emits: task.failed
-- Flags: allow-oom
local before = tonumber(ARGV[1]) or now
local ids = redis.call('ZRANGEBYSCORE', DEAD, '-inf', before, 'LIMIT', 0,
  math.min(100, tonumber(ARGV[2])))
for _, id in ipairs(ids) do
  local key = task_key(id)
  local t = redis.call('HMGET', key, 's', 'y', 'p', 'a')
  if t[1] == 'd' then
    redis.call('HSET', key, 's', 'f', 'u', now)
    index(DONE, now + RETENTION_MS, id)
    emit('task.failed', id, t[2], t[3] or '1', 'f', t[4] or 0, { reason = 'cleared' })
  end
end
if #ids > 0 then redis.call('ZREM', DEAD, unpack(ids)) end
write_indexes()
finish()
return { #ids, before }
