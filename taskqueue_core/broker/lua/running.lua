-- Read what a worker runs.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- ARGV[1] worker (name), [2] most tasks to answer with (int, <= 500)
-- Returns: three per task: id, type, start in ms
-- Flags: no-writes
local most, instance = math.min(500, tonumber(ARGV[2])), redis.call('HGET', KEYS[2], 'instance')
local reply, looked = {}, 0
if not instance then return reply end

local function add(stream, entry_id)
  local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
  if not entry then return end
  local id = entry[2][2]
  local t = redis.call('HMGET', task_key(id), 's', 'f', 'y', 'g')
  if t[1] ~= 'r' or string.match(t[2], ':(.*)$') ~= instance then return end
  for _, value in ipairs({ id, t[3], tonumber(t[4]) }) do reply[#reply + 1] = value end
end

for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
  for priority = 3, 0, -1 do
    local stream = stream_key(queue, priority)
    if looked == most then return reply end
    local owed = redis.pcall('XPENDING', stream, GROUP, '-', '+', most - looked, ARGV[1])
    for _, entry in ipairs(owed.err and {} or owed) do
      looked = looked + 1
      add(stream, entry[1])
    end
  end
end
return reply
