-- Delete ended tasks whose time is over, old dead letters, and a queue nobody has used for a day.
-- KEYS[1] <P>meta
-- ARGV[1] most tasks to delete (int, <= 100)
-- Returns: tasks deleted
-- Transitions: completed -> none, cancelled -> none, failed -> none, dead_letter -> none
-- Flags: allow-oom
local limit = math.min(100, tonumber(ARGV[1]))
local function delete(set, latest, n, states)
  local ids = n > 0 and redis.call('ZRANGEBYSCORE', set, '-inf', latest, 'LIMIT', 0, n) or {}
  if #ids == 0 then return 0 end
  local keys = {}
  for _, id in ipairs(ids) do
    local state = redis.call('HGET', task_key(id), 's')
    if state and string.find(states, state, 1, true) then
      keys[#keys + 1] = task_key(id)
      keys[#keys + 1] = body_key(id)
      keys[#keys + 1] = result_key(id)
      keys[#keys + 1] = history_key(id)
    end
  end
  redis.call('ZREM', set, unpack(ids))
  if #keys > 0 then redis.call('UNLINK', unpack(keys)) end
  return #ids
end

local deleted = delete(DONE, now, limit, 'cxf')
if DEAD_RETENTION_MS > 0 then
  deleted = deleted + delete(DEAD, now - DEAD_RETENTION_MS, limit - deleted, 'd')
end

local oldest = redis.call('ZRANGE', QUEUES, 0, 0, 'WITHSCORES')
if #oldest > 0 and now - tonumber(oldest[2]) > 86400000 then
  local queue, streams, left = oldest[1], {}, 0
  for priority = 0, 3 do
    streams[#streams + 1] = stream_key(queue, priority)
    left = left + redis.call('XLEN', streams[#streams])
  end
  if left == 0 then
    redis.call('UNLINK', P .. 'wake:' .. queue, unpack(streams))
    redis.call('ZREM', QUEUES, queue)
    redis.call('HINCRBY', META, 'queues_version', 1)
  else
    redis.call('ZADD', QUEUES, now, queue)
  end
end
return deleted
