-- Take over tasks whose lease has run out, their worker being gone or deaf; paused ones wait again.
-- KEYS[1] <P>meta
-- KEYS[2 ...] <P>q:<queue>:<priority> to look at
-- ARGV[1] worker (name), [2] instance (token), [3] entries to look at (int, <= 100)
-- ARGV[4 ...] the cursor of each stream (text)
-- Returns: now in ms, tasks as in take.lua, a cursor per stream, names of up to 16 expired workers
-- Transitions: running -> running, running -> pending, running -> dead_letter,
--   running -> cancelled
-- Emits: task.recovered, task.started, task.queued, task.failed, task.dead_letter, task.cancelled
-- Flags: allow-oom
local worker, instance, wanted = ARGV[1], ARGV[2], tonumber(ARGV[3])
if wanted > 100 then return redis.error_reply('ERR at most 100 tasks a call') end

local beats = redis.call('HMGET', META, 'heartbeat', 'grace', 'paused_priorities')
local heartbeat, grace = tonumber(beats[1] or 0), tonumber(beats[2] or 0)
paused_priorities = beats[3]
local cursors = {}
for i = 2, #KEYS do cursors[i - 1] = ARGV[2 + i] end

-- Idle time goes on while the broker is away. Nobody's lease counts before the workers that are
-- alive have had time to renew theirs; what lapsed in that time was not the workers' fault.
if now - heartbeat > LEASE_MS or now < grace then return { now, {}, cursors, {} } end
local is_counted = now > grace + LEASE_MS

-- A lapse that may be the broker's is forgiven once a task. The next one counts even so: when the
-- only worker dies of a task, nobody beats until it has been started again.
local function lost_leases(id, lost)
  if not is_counted and redis.call('HSETNX', task_key(id), 'o', '1') == 1 then return lost end
  count('lost')
  redis.call('HSET', task_key(id), 'l', lost + 1)
  return lost + 1
end

-- At the end of its queue; the last of its attempts does not count.
local function put_back(id, stream, t, attempts)
  local queue, priority = place(stream)
  local created = created_at(redis.call('HGET', task_key(id), 'c'), t[3])
  leave(stream, t[3])
  release({ id = id, key = task_key(id) }, { type = t[2], queue = queue, priority = priority,
    attempts = attempts, created = created })
end

local function take_over(id, stream, t)
  local lost = lost_leases(id, tonumber(t[6] or 0))
  local number, attempts = tonumber(string.match(t[4], '^%d+')), tonumber(t[5])
  local _, priority = place(stream)
  if redis.call('HEXISTS', task_key(id), 'X') == 1 then
    leave(stream, t[3])
    return cancel_running({ id = id, key = task_key(id) }, { type = t[2], priority = priority },
      attempts - 1)
  end
  if lost >= MAX_LOST then
    bury({ id = id, key = task_key(id), duration = 0,
      value = 'lease lost ' .. lost .. ' times: the worker died or hung' },
      { type = t[2], priority = priority, attempts = attempts - 1, worker = worker,
        has_key = true }, 'd', 'poison')
    leave(stream, t[3])
    return
  end
  if not may_start(stream) then return put_back(id, stream, t, attempts) end
  -- The lost attempt is given back and the new one taken: `attempts` stays.
  redis.call('HSET', task_key(id), 'f', number + 1 .. ':' .. instance, 'g', now, 'w', worker)
  hand_over(id, stream, t, number + 1, attempts, lost)
  count('recovered')
  emit('task.recovered', id, t[2], priority, 'r', attempts, { worker_id = worker })
end

local looked = 0

local function take_entries(stream, entries)
  looked = looked + #entries
  for _, entry in ipairs(entries) do
    local id = entry[2][2]
    local t = read_task(id)
    if t[3] ~= entry[1] or (t[1] ~= 'r' and t[1] ~= 'p') then
      leave(stream, entry[1])
      count('orphans')
    elseif t[1] == 'r' then
      take_over(id, stream, t)
    elseif may_start(stream) then
      start(id, stream, t, worker, instance)
    else
      -- It never started: there is no attempt to take off.
      put_back(id, stream, t, tonumber(t[5] or 0) + 1)
    end
  end
end

-- One XAUTOCLAIM passes over no more than ten times its COUNT: a few of them, so that a lapsed lease
-- behind many good ones does not wait for many calls, but not without end.
for i = 2, #KEYS do
  local passed = 0
  while looked < wanted and passed < 500 do
    local answer = redis.pcall('XAUTOCLAIM', KEYS[i], GROUP, worker, LEASE_MS, cursors[i - 1],
      'COUNT', wanted - looked)
    if answer.err then answer = { '0-0', {} } end
    passed = passed + 10 * (wanted - looked)
    cursors[i - 1] = answer[1]
    take_entries(KEYS[i], answer[2])
    if answer[1] == '0-0' then break end
  end
end
write_endings()
fill_bodies()
finish()
return { now, handed, cursors,
  redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', now, 'LIMIT', 0, 16) }
