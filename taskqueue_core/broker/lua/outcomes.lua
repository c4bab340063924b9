-- Shared by the scripts that take outcomes. settle(n, at, worker, instance) takes n outcomes from
-- ARGV at `at`, nine fields each: kind, id, delivery number, duration in ms, value, delay in ms,
-- max_retries, reason, history record. Answers a code each: 1 accepted, 2 already taken, 0 stale
-- (the task is somebody else's now, or was given back); the last two change nothing.
local function postpone(o, task, fields, state, due)
  for _, value in ipairs({ 's', state, 'e', now, 'n', due }) do fields[#fields + 1] = value end
  redis.call('HSET', o.key, unpack(fields))
  redis.call('ZADD', SCHEDULE, due, o.id)
  if redis.call('ZRANGE', SCHEDULE, 0, 0)[1] == o.id then ring(task.queue) end
end

local function fail(o, task)
  if task.held_since then redis.call('HDEL', o.key, 'i') end
  if o.history ~= '' then
    redis.call('RPUSH', history_key(o.id), o.history)
    redis.call('LTRIM', history_key(o.id), -HISTORY_MAX, -1)
  end
  if task.is_cancelled then
    local fields = {}
    keep_value(fields, o, task.has_key)
    redis.call('HSET', o.key, unpack(fields))
    return cancel_running(o, task, task.attempts)
  end
  if o.reason == 'dropped' then return bury(o, task, 'f', o.reason) end
  if o.reason ~= '' then return bury(o, task, 'd', o.reason) end
  if task.attempts > o.max_retries then return bury(o, task, 'd', 'max_retries') end
  local due, fields = now + o.delay, {}
  keep_value(fields, o, task.has_key)
  postpone(o, task, fields, 'y', due)
  count('retrying:' .. label(task.type))
  emit_outcome('task.retrying', o, task, 'y',
    { error = cut(o.value, 1024), next_retry_at = due, scheduled_at = due })
end

-- No handler here for this type. A worker that has one takes it out of the index of held tasks; it
-- is not put straight back, or workers with different plugins would toss it to and fro. After
-- `delay` any worker looks at it again, to give it up once it has waited for `duration`.
local function hold(o, task)
  if task.is_cancelled then return cancel_running(o, task, task.attempts - 1) end
  local since = tonumber(task.held_since or now)
  -- Who could have started it was not to while its priority was paused: it has its time anew.
  if now - since > o.duration then
    since = math.max(since, tonumber(redis.call('HGET', META, 'resumed:' .. task.priority) or 0))
  end
  task.attempts = task.attempts - 1
  count('misrouted')
  if now - since > o.duration then
    o.value, o.duration = 'no worker handles the type ' .. task.type, 0
    return bury(o, task, 'd', 'unhandled')
  end
  local due = now + math.max(50, math.min(o.delay, since + o.duration + 1 - now))
  postpone(o, task, { 'i', since, 'a', task.attempts }, 's', due)
  put_aside(o.id, task.type, task.priority, since)
  emit('task.queued', o.id, task.type, task.priority, 's', task.attempts, { scheduled_at = due })
end

local KINDS = { ['1'] = complete, ['2'] = fail, ['3'] = release, ['4'] = hold }

local function settle(n, at, worker, instance)
  local codes = {}
  for i = 1, n do
    local o = { id = ARGV[at + 1], duration = tonumber(ARGV[at + 3]), value = ARGV[at + 4],
      delay = tonumber(ARGV[at + 5]), max_retries = tonumber(ARGV[at + 6]), reason = ARGV[at + 7],
      history = ARGV[at + 8] }
    o.key = task_key(o.id)
    local t = redis.call('HMGET', o.key, 's', 'y', 'm', 'q', 'p', 'f', 'a', 'c', 'V', 'i',
      'X')
    local is_owner = t[6] == ARGV[at + 2] .. ':' .. instance
    if is_owner and t[1] == 'r' then
      local task = { type = t[2], queue = t[4] or 'default', priority = t[5] or '1',
        attempts = tonumber(t[7]), created = created_at(t[8], t[3]), has_key = t[9] == '1',
        held_since = t[10], is_cancelled = t[11], worker = worker }
      leave(stream_key(task.queue, task.priority), t[3])
      KINDS[ARGV[at]](o, task)
      codes[i] = 1
    elseif is_owner and (ARGV[at] ~= '1' or t[1] == 'c') then
      codes[i] = 2
    else
      -- Also a result of a delivery that a heartbeat gave back: nobody has kept it.
      codes[i] = 0
      count('stale')
    end
    at = at + 9
  end
  call_workers()
  return codes
end
