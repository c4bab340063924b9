-- Of repair: what a task's hash says, and what is wrong with its entry. fix(code, what, write) notes
-- a repair, see repair.py, and how to write it: all is read before anything is written.
local repairs, writes = {}, {}
local function fix(code, what, write)
  repairs[#repairs + 1], repairs[#repairs + 2] = code, what
  writes[#writes + 1] = write
end

local INDEXES = { s = SCHEDULE, y = SCHEDULE, c = DONE, x = DONE, f = DONE, d = DEAD }

local FIELDS = { 's', 'y', 'm', 'q', 'p', 'a', 'c', 'w', 'e', 'u', 'n', 'z', 'i', 'O', 'X' }

local function read(id)
  local key = task_key(id)
  local v = redis.call('HMGET', key, unpack(FIELDS))
  local t = { id = id, key = key, state = v[1], type = v[2], entry = v[3] or '',
    queue = v[4] or 'default', priority = v[5] or '1', attempts = tonumber(v[6] or 0) or 0,
    created = created_at(v[7], v[3]), worker = v[8], ended = tonumber(v[9] or ''),
    updated = tonumber(v[10] or ''), due = tonumber(v[11] or v[12] or ''),
    held_since = v[1] == 's' and tonumber(v[13] or ''), owner = v[14],
    is_cancelled = v[15] }
  t.exists = v[1] or redis.call('EXISTS', key) == 1
  t.is_in_stream = v[1] == 'p' or v[1] == 'r'
  -- Enough is known to say where it belongs.
  t.is_sound = v[2] and (t.is_in_stream or INDEXES[v[1]]) and string.find(t.priority, '^[0-3]$')
  t.stream = stream_key(t.queue, t.priority)
  return t
end

-- Whether tasks can be put into a stream, and how far its group has read.
local streams = {}
local function stream_of(t)
  local stream = streams[t.stream]
  if stream then return stream end
  local kind = redis.call('TYPE', t.stream).ok
  stream = { is_usable = kind == 'stream' or kind == 'none', read_to = '0-0' }
  streams[t.stream] = stream
  for _, group in ipairs(kind == 'stream' and redis.call('XINFO', 'GROUPS', t.stream) or {}) do
    if group[2] == GROUP then stream.read_to = group[8] end
  end
  return stream
end

local function is_behind(entry, other)
  local ms, number = string.match(entry, '(%d+)%-(%d+)')
  local other_ms, other_number = string.match(other, '(%d+)%-(%d+)')
  if ms ~= other_ms then return tonumber(ms) > tonumber(other_ms) end
  return tonumber(number) > tonumber(other_number)
end

-- Whether the entry that the hash names is there and the task's, and whether it is pending.
local function find_entry(t)
  local rows = redis.pcall('XRANGE', t.stream, t.entry, t.entry)
  local row = not rows.err and rows[1]
  if not row or row[1] ~= t.entry or row[2][2] ~= t.id then return false, false end
  local owed = redis.pcall('XPENDING', t.stream, GROUP, t.entry, t.entry, 1)
  return true, not owed.err and #owed > 0
end

-- Put it behind all others. If it was running, its lease is gone, and that attempt does not count.
local function requeue(t, is_there)
  redis.pcall('XGROUP', 'CREATE', t.stream, GROUP, '0', 'MKSTREAM')
  if is_there then leave(t.stream, t.entry) end
  if t.state == 'r' then
    t.attempts = math.max(t.attempts, 1)
    return release(t, t)
  end
  redis.call('HSET', t.key, 'm', enqueue(t.id, t.queue, t.priority), 'c', t.created)
  ring(t.queue)
end

-- Its worker may be alive, and renews the lease; otherwise it lapses, and recover takes over.
local function lease_again(t)
  redis.pcall('XGROUP', 'CREATE', t.stream, GROUP, '0')
  redis.call('XCLAIM', t.stream, GROUP, t.worker, 0, t.entry, 'FORCE', 'JUSTID')
end

local listed = {}
local function check_entry(t)
  local stream = stream_of(t)
  if not stream.is_usable then return end
  if not listed[t.queue] and not redis.call('ZSCORE', QUEUES, t.queue) then
    fix(1, t.queue, function() open_queue(t.queue) end)
  end
  listed[t.queue] = true
  local is_there, is_pending = find_entry(t)
  if t.state == 'p' then
    -- One that the group has passed is given to nobody.
    if not is_there or is_pending or not is_behind(t.entry, stream.read_to) then
      fix(2, t.id, function() requeue(t, is_there) end)
    end
  elseif not is_there or not is_pending and not t.worker then
    fix(t.is_cancelled and 16 or 3, t.id, function() requeue(t, is_there) end)
  elseif not is_pending then
    fix(4, t.id, function() lease_again(t) end)
  end
end
