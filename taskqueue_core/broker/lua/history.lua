-- Read past events: the entry that holds an event, and those behind it.
-- KEYS[1] <P>meta
-- ARGV[1] number of the event (int, 0 for all that are kept), [2] events that are wanted (int)
-- Returns: number of the last event, when the numbers began in ms, now in ms, per entry the number of
--   its last event and its events; at most 100 entries
-- Flags: no-writes
local after, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('HMGET', META, 'events', 'epoch')
local reply = { tonumber(known[1] or 0), tonumber(known[2] or 0), now }
local first
for _, entry in ipairs(redis.call('XRANGE', P .. 'ev', ARGV[1] .. '-0', '+', 'COUNT',
  math.min(wanted + 1, 100))) do
  local last = tonumber(string.match(entry[1], '^%d+'))
  reply[#reply + 1] = last
  reply[#reply + 1] = entry[2][2]
  first = first or last
  if last - math.max(first, after) >= wanted then break end
end
return reply
