-- Accept up to 100 new tasks, each into its stream or the schedule.
-- KEYS[1] <P>meta
-- KEYS[2 ...] <P>t:<id>, one a task
-- ARGV[1] number of tasks (int, <= 100)
-- ARGV[2 ...] eight a task: id (32 hex digits), type (name), queue (name), priority (int, 0 to 3),
--   max_retries (int or ''), timeout (s or ''), scheduled time (ms or ''), body (JSON)
-- Returns: two per task: code (1 pending, 2 scheduled, -1 backlog full, -2 too many queues), created
--   in ms
-- Transitions: none -> pending, none -> scheduled
-- Emits: task.submitted
-- Flags: refused when memory is full
local n = tonumber(ARGV[1])
if n > 100 then return redis.error_reply('ERR at most 100 tasks a call') end

local backlog = tonumber(redis.call('HGET', STATS, 'backlog') or 0)
local bodies, usable = {}, {}

local function is_usable(queue)
  if usable[queue] == nil then
    usable[queue] = redis.call('ZCARD', QUEUES) < MAX_QUEUES
      or redis.call('ZSCORE', QUEUES, queue) ~= false
    if usable[queue] then open_queue(queue) end
  end
  return usable[queue]
end

local function accept(key, id, task_type, queue, priority, max_retries, timeout, scheduled, body)
  local due = tonumber(scheduled)
  local state = due and due > now and 's' or 'p'
  local fields = { 's', state, 'y', task_type }
  local function add(name, value, default)
    if value ~= default then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  local created = now
  if state == 'p' then
    local entry = enqueue(id, queue, priority)
    add('m', entry)
    created = tonumber(created_at(nil, entry))
  else
    add('c', now)
  end
  add('q', queue, 'default')
  add('p', priority, '1')
  add('r', max_retries, '')
  add('t', timeout, '')
  add('z', scheduled, '')
  if #body <= 64 then
    add('b', body)
  else
    bodies[#bodies + 1] = body_key(id)
    bodies[#bodies + 1] = body
  end
  redis.call('HSET', key, unpack(fields))
  if state == 's' then
    redis.call('ZADD', SCHEDULE, due, id)
    count('scheduled')
    -- A new first member: whoever sleeps until the former one must look again.
    if redis.call('ZRANGE', SCHEDULE, 0, 0)[1] == id then ring(queue) end
  end
  count('submitted:' .. label(task_type) .. ':' .. priority)
  emit('task.submitted', id, task_type, priority, state, 0, due and { scheduled_at = due } or nil)
  return state, created
end

local reply, accepted, waiting = {}, 0, {}
for i = 1, n do
  local at = 2 + 8 * (i - 1)
  local key, queue = KEYS[1 + i], ARGV[at + 2]
  local known = redis.call('HMGET', key, 's', 'm', 'c', 'z')
  local code, created = 1, now
  if known[1] then
    -- A repeat of a call whose reply was lost: the same answer again.
    created = tonumber(created_at(known[3], known[2]))
    if known[4] and tonumber(known[4]) > created then code = 2 end
  elseif backlog + accepted >= MAX_BACKLOG then
    code = -1
  elseif not is_usable(queue) then
    code = -2
  else
    local state
    state, created = accept(key, ARGV[at], ARGV[at + 1], queue, ARGV[at + 3], ARGV[at + 4],
      ARGV[at + 5], ARGV[at + 6], ARGV[at + 7])
    accepted = accepted + 1
    if state == 'p' then waiting[queue] = true else code = 2 end
  end
  reply[2 * i - 1], reply[2 * i] = code, created
end

if #bodies > 0 then redis.call('MSET', unpack(bodies)) end
count('backlog', accepted)
for queue in pairs(waiting) do ring(queue) end
finish()
return reply
