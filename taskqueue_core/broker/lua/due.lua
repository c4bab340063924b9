-- Shared by promote and fetch. promote_due(limit) moves due tasks from the schedule to their
-- streams, earliest first, and answers their queues, whose bells the caller must ring, and how many
-- there were; next_due() answers the ms until the next one, -1 without one.
local function promote_due(limit)
  local first = redis.call('ZRANGE', SCHEDULE, 0, 0, 'WITHSCORES')
  if #first == 0 or tonumber(first[2]) > now then return {}, 0 end
  local ids = redis.call('ZRANGEBYSCORE', SCHEDULE, '-inf', now, 'LIMIT', 0, limit)
  local queues = {}
  for _, id in ipairs(ids) do
    local key = task_key(id)
    local t = redis.call('HMGET', key, 's', 'y', 'm', 'q', 'p', 'a', 'c')
    if t[1] == 's' or t[1] == 'y' then
      local queue, priority = t[4] or 'default', t[5] or '1'
      local entry = enqueue(id, queue, priority)
      redis.call('HSET', key, 's', 'p', 'm', entry, 'u', now, 'c', created_at(t[7], t[3]))
      emit('task.queued', id, t[2], priority, 'p', t[6] or 0)
      queues[queue] = true
    else
      count('orphans')
    end
  end
  redis.call('ZREM', SCHEDULE, unpack(ids))
  return queues, #ids
end

local function next_due()
  local first = redis.call('ZRANGE', SCHEDULE, 0, 0, 'WITHSCORES')
  if #first == 0 then return -1 end
  return math.max(0, tonumber(first[2]) - now)
end
