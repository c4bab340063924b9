-- Shared by every script: key names, bells, streams, indexes.
-- KEYS[1] is always <P>meta. `now` and the settings (upper case) are defined above.
local P = string.sub(KEYS[1], 1, -5)
local META, STATS, QUEUES = KEYS[1], P .. 'stats', P .. 'queues'
local SCHEDULE, DONE, DEAD = P .. 'sched', P .. 'done', P .. 'dlq'
local GROUP = 'workers'

local function task_key(id) return P .. 't:' .. id end
local function body_key(id) return P .. 'b:' .. id end
local function result_key(id) return P .. 'r:' .. id end
local function history_key(id) return P .. 'h:' .. id end
local function worker_key(worker) return P .. 'w:' .. worker end
local function control_key(worker) return P .. 'ctl:' .. worker end
local function stream_key(queue, priority) return P .. 'q:' .. queue .. ':' .. priority end

-- Ring the bell of a queue; it holds at most one token.
local function ring(queue)
  local bell = P .. 'wake:' .. queue
  if redis.call('LLEN', bell) == 0 then redis.call('LPUSH', bell, '1') end
end

-- Tell a worker something at once; what it does not hear in time it learns from its heartbeat.
local function send(control, message)
  redis.call('RPUSH', control, message)
  redis.call('LTRIM', control, -100, -1)
  redis.call('PEXPIRE', control, LEASE_MS)
end

-- Type as a metric label: unknown ones share one, so that no client can grow the counters.
local labels = {}
local function label(task_type)
  local known = labels[task_type]
  if not known then
    known = redis.call('ZSCORE', P .. 'types', task_type) and task_type or 'other'
    labels[task_type] = known
  end
  return known
end

-- Note the use of a queue; a new one gets its streams and groups, and all workers hear of it.
local opened = {}
local function open_queue(queue)
  if opened[queue] then return end
  opened[queue] = true
  if redis.call('ZADD', QUEUES, now, queue) == 1 then
    for priority = 0, 3 do
      redis.pcall('XGROUP', 'CREATE', stream_key(queue, priority), GROUP, '0', 'MKSTREAM')
    end
    redis.call('HINCRBY', META, 'queues_version', 1)
    ring('*')
  end
end

-- Put a waiting task at the end of its stream; returns the new entry id.
local function enqueue(id, queue, priority)
  open_queue(queue)
  return redis.call('XADD', stream_key(queue, priority), '*', 'i', id)
end

-- Creation time: kept in `c` once the first entry id, whose milliseconds it was, is overwritten.
local function created_at(created, entry)
  return created or string.match(entry or '', '^%d+') or now
end

-- Entries to take off their streams: one XACK and one XDEL per stream at the end.
local leaving = {}
local function leave(stream, entry)
  local entries = leaving[stream] or {}
  leaving[stream] = entries
  entries[#entries + 1] = entry
end

local function leave_streams()
  for stream, entries in pairs(leaving) do
    -- pcall: a stream deleted by hand has no group to acknowledge to.
    redis.pcall('XACK', stream, GROUP, unpack(entries))
    redis.call('XDEL', stream, unpack(entries))
  end
end

-- Members to add to a sorted set: one ZADD per set at the end.
local indexing = {}
local function index(key, score, id)
  local members = indexing[key] or {}
  indexing[key] = members
  members[#members + 1] = score
  members[#members + 1] = id
end

local function write_indexes()
  for key, members in pairs(indexing) do redis.call('ZADD', key, unpack(members)) end
end
