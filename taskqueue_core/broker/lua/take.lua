-- Shared by fetch and recover: hand tasks over to a worker.
-- hand_over() answers eleven fields a task: id, entry id, queue, priority, type, delivery number,
-- attempts, lost leases, timeout in s or '', max_retries or '', body.
local handed, missing, missing_at = {}, {}, {}
local HANDED_FIELDS = { 's', 'y', 'm', 'f', 'a', 'l', 't', 'r', 'b', 'z' }

local function read_task(id)
  return redis.call('HMGET', task_key(id), unpack(HANDED_FIELDS))
end

-- Priorities that are paused (digits), which a script reads with what else it needs of meta.
local paused_priorities = false
local function may_start(stream)
  return not paused_priorities
    or not string.find(paused_priorities, string.sub(stream, -1), 1, true)
end

local function place(stream)
  return string.match(stream, ':q:(.*):(%d)$')
end

local function hand_over(id, stream, t, number, attempts, lost)
  local queue, priority = place(stream)
  local at = #handed
  handed[at + 1], handed[at + 2], handed[at + 3], handed[at + 4] = id, t[3], queue, priority
  handed[at + 5], handed[at + 6], handed[at + 7], handed[at + 8] = t[2], number, attempts, lost
  handed[at + 9], handed[at + 10], handed[at + 11] = t[7] or '', t[8] or '', t[9] or ''
  if not t[9] then
    missing[#missing + 1] = body_key(id)
    missing_at[#missing_at + 1] = at + 11
  end
end

-- Make the task the worker's: next delivery number, which it returns, and one more attempt.
local function start(id, stream, t, worker, instance)
  local number = tonumber(string.match(t[4] or '0', '^%d+')) + 1
  local attempts = tonumber(t[5] or 0) + 1
  redis.call('HSET', task_key(id), 's', 'r', 'f', number .. ':' .. instance, 'a', attempts,
    'g', now, 'w', worker)
  hand_over(id, stream, t, number, attempts, tonumber(t[6] or 0))
  local _, priority = place(stream)
  emit('task.started', id, t[2], priority, 'r', attempts,
    { worker_id = worker, scheduled_at = tonumber(t[10]) })
  return number
end

local function fill_bodies()
  if #missing == 0 then return end
  for i, body in ipairs(redis.call('MGET', unpack(missing))) do
    handed[missing_at[i]] = body or ''
  end
end
