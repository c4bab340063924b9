-- Look at what waits: since when, in which queues, for want of which handlers.
-- KEYS[1] <P>meta
-- ARGV[1] most types of held tasks to count (int, <= 1000)
-- Returns: ms that the oldest waiting task of priority 0 to 3 has waited, -1 without one; queues with
--   waiting tasks, each with their number; number of types of which tasks are held; some or all of
--   these types, each with the number of its tasks
-- Flags: no-writes
local most = math.min(1000, tonumber(ARGV[1]))
local oldest, queues, types = { -1, -1, -1, -1 }, {}, {}

-- What the group has not read yet waits; the first of that has waited longest.
local function look(stream, at)
  local length, running, read_to = redis.call('XLEN', stream), 0, '0-0'
  if length == 0 then return 0 end
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, group in ipairs(groups.err and {} or groups) do
    local field = {}
    for i = 1, #group, 2 do field[group[i]] = group[i + 1] end
    if field.name == GROUP then running, read_to = field.pending, field['last-delivered-id'] end
  end
  if length <= running then return 0 end
  local first = redis.call('XRANGE', stream, '(' .. read_to, '+', 'COUNT', 1)[1]
  if first then
    oldest[at] = math.max(oldest[at], 0, now - tonumber(string.match(first[1], '^%d+')))
  end
  return length - running
end

for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
  local waiting = 0
  for priority = 0, 3 do waiting = waiting + look(stream_key(queue, priority), priority + 1) end
  if waiting > 0 then
    queues[#queues + 1] = queue
    queues[#queues + 1] = waiting
  end
end

-- Anybody can invent types: of too many, some are looked at.
local number = redis.call('SCARD', HELD)
local names = number > most and redis.call('SRANDMEMBER', HELD, most)
  or redis.call('SMEMBERS', HELD)
for _, name in ipairs(names) do
  types[#types + 1] = name
  types[#types + 1] = redis.call('ZCARD', held_key(name))
end
return { oldest, queues, number, types }
