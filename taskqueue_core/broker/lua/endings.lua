-- Shared by the scripts that end deliveries: complete, bury, cancel and release a task, keep its
-- value. `o` is what was reported: id, key, value, duration in ms; `task` is what the hash says: type,
-- queue, priority, attempts, created, has_key (its value is under a key of its own), worker,
-- is_cancelled (it was asked to stop).
local values, emptied = {}, {}

-- At most `limit` bytes, never cut inside a UTF-8 sequence: a reader could not decode it.
local function cut(text, limit)
  if #text <= limit then return text end
  local at = limit
  while at > 0 and string.find(string.sub(text, at + 1, at + 1), '[\128-\191]') do at = at - 1 end
  return string.sub(text, 1, at)
end

-- Keep a result or an error: small ones in the hash, others under a key of their own. Any field
-- over 64 bytes would turn the hash's listpack into a table.
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
  -- Its work is done: that it should have stopped is of no use to anybody any more.
  if task.is_cancelled then redis.call('HDEL', o.key, 'X') end
  redis.call('HSET', o.key, unpack(fields))
  index(DONE, now + RETENTION_MS, o.id)
  count('backlog', -1)
  count('finished:' .. label(task.type) .. ':completed')
  emit_outcome('task.completed', o, task, 'c', {})
end

-- End without success: a dead letter ('d'), or 'f' when the handler wanted the task dropped.
local function bury(o, task, state, reason)
  local fields = { 's', state, 'e', now, 'k', cut(reason, 64), 'a', task.attempts }
  keep_value(fields, o, task.has_key)
  redis.call('HSET', o.key, unpack(fields))
  count('backlog', -1)
  emit_outcome('task.failed', o, task, state, { error = cut(o.value, 1024) })
  if state == 'f' then
    index(DONE, now + RETENTION_MS, o.id)
    count('finished:' .. label(task.type) .. ':failed')
  else
    index(DEAD, now, o.id)
    count('dead_lettered')
    count('finished:' .. label(task.type) .. ':dead_letter')
    emit('task.dead_letter', o.id, task.type, task.priority, state, task.attempts,
      { reason = cut(reason, 64) })
  end
end

-- End a task that was asked to stop: whatever became of its delivery, it never runs again.
local function cancel_running(o, task, attempts)
  redis.call('HDEL', o.key, 'X')
  redis.call('HSET', o.key, 's', 'x', 'e', now, 'a', attempts)
  count('backlog', -1)
  count('finished:' .. label(task.type) .. ':cancelled')
  index(DONE, now + RETENTION_MS, o.id)
  emit('task.cancelled', o.id, task.type, task.priority, 'x', attempts)
end

-- Back to the stream; the attempt does not count.
local function release(o, task)
  if task.is_cancelled then return cancel_running(o, task, task.attempts - 1) end
  local entry = enqueue(o.id, task.queue, task.priority)
  redis.call('HSET', o.key, 's', 'p', 'm', entry, 'u', now, 'c', task.created,
    'a', task.attempts - 1)
  ring(task.queue)
  emit('task.queued', o.id, task.type, task.priority, 'p', task.attempts - 1)
end

local function write_endings()
  if #values > 0 then redis.call('MSET', unpack(values)) end
  if #emptied > 0 then redis.call('UNLINK', unpack(emptied)) end
  leave_streams()
  write_indexes()
end
