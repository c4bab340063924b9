-- Shared by the scripts that end deliveries. settle(n, at, worker, instance) takes n outcomes from
-- ARGV at `at`, nine fields each: kind, id, delivery number, duration in ms, value, delay in ms,
-- max_retries, reason, history record. Answers a code each: 1 accepted, 2 already taken, 0 stale
-- (the task is somebody else's now); the last two change nothing.
local values, emptied = {}, {}

local function cut(text)
  if #text <= 1024 then return text end
  -- Never in the middle of a UTF-8 sequence: a reader could not decode the event.
  return (string.gsub(string.sub(text, 1, 1024), '[\192-\255]?[\128-\191]*$', ''))
end

-- Keep a result or an error: small ones in the hash, others under a key of their own.
local function keep_value(fields, o, has_key)
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if #o.value <= 64 then
    add('v', o.value)
    if has_key then
      emptied[#emptied + 1] = result_key(o.id)
      add('V', '0')
    end
  else
    values[#values + 1] = result_key(o.id)
    values[#values + 1] = o.value
    add('V', '1')
  end
end

local function emit_outcome(event, o, task, state, more)
  more.worker_id, more.duration_ms = task.worker, o.duration
  emit(event, o.id, task.type, task.priority, state, task.attempts, more)
end

local function complete(o, task)
  local fields = { 's', 'c', 'e', now }
  keep_value(fields, o, task.has_key)
  redis.call('HSET', o.key, unpack(fields))
  index(DONE, now + RETENTION_MS, o.id)
  count('backlog', -1)
  count('finished:' .. label(task.type) .. ':completed')
  emit_outcome('task.completed', o, task, 'c', {})
end

-- End without success: a dead letter ('d'), or 'f' when the handler wanted the task dropped.
local function bury(o, task, state, reason)
  redis.call('HSET', o.key, 's', state, 'e', now, 'k', reason)
  count('backlog', -1)
  emit_outcome('task.failed', o, task, state, { error = cut(o.value) })
  if state == 'f' then
    index(DONE, now + RETENTION_MS, o.id)
    count('finished:' .. label(task.type) .. ':failed')
  else
    index(DEAD, now, o.id)
    count('dead_lettered')
    count('finished:' .. label(task.type) .. ':dead_letter')
    emit('task.dead_letter', o.id, task.type, task.priority, state, task.attempts,
      { reason = reason })
  end
end

local function postpone(o, task, state, due)
  redis.call('HSET', o.key, 's', state, 'e', now, 'n', due)
  redis.call('ZADD', SCHEDULE, due, o.id)
  if redis.call('ZRANGE', SCHEDULE, 0, 0)[1] == o.id then ring(task.queue) end
end

local function fail(o, task)
  local fields = {}
  keep_value(fields, o, task.has_key)
  redis.call('HSET', o.key, unpack(fields))
  if task.held_since then redis.call('HDEL', o.key, 'i') end
  if o.history ~= '' then
    redis.call('RPUSH', history_key(o.id), o.history)
    redis.call('LTRIM', history_key(o.id), -HISTORY_MAX, -1)
  end
  if o.reason == 'dropped' then return bury(o, task, 'f', o.reason) end
  if o.reason ~= '' then return bury(o, task, 'd', o.reason) end
  if task.attempts > o.max_retries then return bury(o, task, 'd', 'max_retries') end
  local due = now + o.delay
  postpone(o, task, 'y', due)
  count('retrying:' .. label(task.type))
  emit_outcome('task.retrying', o, task, 'y',
    { error = cut(o.value), next_retry_at = due, scheduled_at = due })
end

-- Back to the stream; the attempt does not count.
local function release(o, task)
  local entry = enqueue(o.id, task.queue, task.priority)
  redis.call('HSET', o.key, 's', 'p', 'm', entry, 'u', now, 'c', task.created,
    'a', task.attempts - 1)
  ring(task.queue)
  emit('task.queued', o.id, task.type, task.priority, 'p', task.attempts - 1)
end

-- No handler here for this type. It waits as long again as it has waited, from 50 ms up to the
-- cap `delay`, so that workers with different plugins do not toss it to and fro; after `duration`
-- it is given up.
local function hold(o, task)
  local since = tonumber(task.held_since or now)
  task.attempts = task.attempts - 1
  redis.call('HSET', o.key, 'i', since, 'a', task.attempts)
  count('misrouted')
  if now - since > o.duration then
    o.value, o.duration = 'no worker handles the type ' .. task.type, 0
    redis.call('HSET', o.key, 'v', cut(o.value), 'V', '0')
    redis.call('UNLINK', result_key(o.id))
    return bury(o, task, 'd', 'unhandled')
  end
  postpone(o, task, 's', now + math.max(50, math.min(now - since, o.delay)))
end

local KINDS = { ['1'] = complete, ['2'] = fail, ['3'] = release, ['4'] = hold }

local function settle(n, at, worker, instance)
  local codes = {}
  for i = 1, n do
    local o = { id = ARGV[at + 1], duration = tonumber(ARGV[at + 3]), value = ARGV[at + 4],
      delay = tonumber(ARGV[at + 5]), max_retries = tonumber(ARGV[at + 6]), reason = ARGV[at + 7],
      history = ARGV[at + 8] }
    o.key = task_key(o.id)
    local t = redis.call('HMGET', o.key, 's', 'y', 'm', 'q', 'p', 'f', 'a', 'c', 'V', 'i')
    local is_owner = t[6] == ARGV[at + 2] .. ':' .. instance
    if is_owner and t[1] == 'r' then
      local task = { type = t[2], queue = t[4] or 'default', priority = t[5] or '1',
        attempts = tonumber(t[7]), created = created_at(t[8], t[3]), has_key = t[9] == '1',
        held_since = t[10], worker = worker }
      leave(stream_key(task.queue, task.priority), t[3])
      KINDS[ARGV[at]](o, task)
      codes[i] = 1
    else
      codes[i] = is_owner and 2 or 0
      if not is_owner then count('stale') end
    end
    at = at + 9
  end
  return codes
end

local function write_outcomes()
  if #values > 0 then redis.call('MSET', unpack(values)) end
  if #emptied > 0 then redis.call('UNLINK', unpack(emptied)) end
  leave_streams()
  write_indexes()
end
