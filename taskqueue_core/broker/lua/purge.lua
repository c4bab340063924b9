-- Cancel the waiting tasks of one stream, a step at a time; running ones stay.
-- KEYS[1] <P>meta
-- KEYS[2] <P>q:<queue>:<priority>
-- ARGV[1] entry id to start at (text), [2] latest entry time (ms, '' for now)
-- ARGV[3] most entries to look at (int, <= 100)
-- Returns: entry id to start at next or '', tasks cancelled, the time in ms that '' stood for
-- Transitions: pending -> cancelled
-- Emits: task.cancelled
-- Flags: allow-oom
local before, limit = tonumber(ARGV[2]) or now, math.min(100, tonumber(ARGV[3]))
local entries = redis.call('XRANGE', KEYS[2], ARGV[1], string.format('%.0f', before), 'COUNT', limit)
local cancelled = 0
for _, entry in ipairs(entries) do
  local id = entry[2][2]
  local key = task_key(id)
  local t = redis.call('HMGET', key, 's', 'y', 'm', 'q', 'p', 'a')
  if t[1] == 'p' and t[3] == entry[1] then
    cancel(id, key, t, 'purge')
    cancelled = cancelled + 1
  end
end
leave_streams()
write_indexes()
finish()
local following = #entries == limit and '(' .. entries[limit][1] or ''
return { following, cancelled, before }
