-- Of submit: store one new task, whose arguments begin at `at`. Bodies are written by the script.
local bodies, has_owner = {}, false
local function accept(key, id, at)
  local task_type, queue, priority = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local scheduled, owner, body = ARGV[at + 6], ARGV[at + 7], ARGV[at + 9]
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
  add('r', ARGV[at + 4], '')
  add('t', ARGV[at + 5], '')
  add('z', scheduled, '')
  add('O', owner, '')
  has_owner = has_owner or owner ~= ''
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
