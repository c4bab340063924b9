-- Count what is where, all queues together.
-- KEYS[1] <P>meta
-- Returns: entries and unacknowledged entries of priority 0 to 3 in turn, scheduled, dead letters,
--   backlog, the priorities that are paused (digits)
-- Flags: no-writes
local reply = { 0, 0, 0, 0, 0, 0, 0, 0 }
for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
  for priority = 0, 3 do
    local stream = stream_key(queue, priority)
    local at = 2 * priority + 1
    reply[at] = reply[at] + redis.call('XLEN', stream)
    local owed = redis.pcall('XPENDING', stream, GROUP)
    if not owed.err then reply[at + 1] = reply[at + 1] + owed[1] end
  end
end
reply[9] = redis.call('ZCARD', SCHEDULE)
reply[10] = redis.call('ZCARD', DEAD)
reply[11] = tonumber(redis.call('HGET', STATS, 'backlog') or 0)
reply[12] = redis.call('HGET', META, 'paused_priorities') or ''
return reply
