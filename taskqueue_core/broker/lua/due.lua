-- Shared by promote and fetch. promote_due(limit) moves due tasks from the schedule to their
-- streams, earliest first, and answers their queues, whose bells the caller must ring, and how many
-- there were; next_due() answers the ms until the next one, -1 without one.
local DUE_FIELDS = { 's', 'y', 'm', 'q', 'p', 'a', 'c', 'i' }

local function promote_task(id, key, t)
  local queue, priority = t[4] or 'default', t[5] or '1'
  local entry = enqueue(id, queue, priority)
  redis.call('HSET', key, 's', 'p', 'm', entry, 'u', now, 'c', created_at(t[7], t[3]))
  emit('task.queued', id, t[2], priority, 'p', t[6] or 0)
  return queue
end

local function promote_due(limit)
  local first = redis.call('ZRANGE', SCHEDULE, 0, 0, 'WITHSCORES')
  if #first == 0 or tonumber(first[2]) > now then return {}, 0 end
  local ids = redis.call('ZRANGEBYSCORE', SCHEDULE, '-inf', now, 'LIMIT', 0, limit)
  local queues = {}
  for _, id in ipairs(ids) do
    local key = task_key(id)
    local t = redis.call('HMGET', key, unpack(DUE_FIELDS))
    if t[1] == 's' or t[1] == 'y' then
      queues[promote_task(id, key, t)] = true
      if t[8] then bring_back(t[2], { id }) end
    else
      count('orphans')
    end
  end
  redis.call('ZREM', SCHEDULE, unpack(ids))
  return queues, #ids
end

-- Held tasks of these types come back too, critical ones first, to the streams in `served`, at most
-- `limit` of them; answers their queues. It looks at a hundred or so: behind as many of a queue that
-- is not served, a task waits until it is due.
local function promote_held(types, served, limit)
  local held, found = {}, {}
  for name in string.gmatch(types, '%S+') do
    if redis.call('SISMEMBER', HELD, name) == 1 then held[#held + 1] = name end
  end
  for _, name in ipairs(held) do
    local last = math.ceil(100 / #held) - 1
    local rows = redis.call('ZRANGE', held_key(name), 0, last, 'WITHSCORES')
    for i = 1, #rows, 2 do found[#found + 1] = { tonumber(rows[i + 1]), rows[i], name } end
  end
  table.sort(found, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  local queues, ids, back = {}, {}, {}
  for _, one in ipairs(found) do
    if #ids == limit then break end
    local id, name = one[2], one[3]
    local key = task_key(id)
    local t = redis.call('HMGET', key, unpack(DUE_FIELDS))
    local is_held = t[1] == 's' and t[8]
    if is_held and served[stream_key(t[4] or 'default', t[5] or '1')] then
      ids[#ids + 1] = id
      queues[promote_task(id, key, t)] = true
    end
    if not is_held then count('orphans') end
    if not is_held or ids[#ids] == id then
      back[name] = back[name] or {}
      table.insert(back[name], id)
    end
  end
  for name, its in pairs(back) do bring_back(name, its) end
  if #ids > 0 then redis.call('ZREM', SCHEDULE, unpack(ids)) end
  return queues
end

local function next_due()
  local first = redis.call('ZRANGE', SCHEDULE, 0, 0, 'WITHSCORES')
  if #first == 0 then return -1 end
  return math.max(0, tonumber(first[2]) - now)
end
