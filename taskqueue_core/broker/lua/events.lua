-- Shared by every script: its events and counters. They collect during the call; finish() writes
-- each once.
local events, counts = {}, {}

local function emit(event, id, task_type, priority, state, attempts, more)
  events[#events + 1] = { event, id, task_type, tonumber(priority), state, tonumber(attempts), more }
end

local function emit_worker(event, worker, more)
  events[#events + 1] = { event, worker, more }
end

local function count(field, by)
  counts[field] = (counts[field] or 0) + (by or 1)
end

-- The events of an owned task name its owner: others with an owner are not told of them.
local function name_owners()
  if not redis.call('HGET', META, 'owners') then return end
  for _, event in ipairs(events) do
    local is_task = string.sub(event[1], 1, 5) == 'task.'
    local owner = is_task and redis.call('HGET', task_key(event[2]), 'O')
    if owner then
      event[7] = event[7] or {}
      event[7].owner = owner
    end
  end
end

-- The last number in the stream: more than 0 where only the count of them has been deleted by hand.
local function last_in_stream()
  local info, last = redis.pcall('XINFO', 'STREAM', P .. 'ev'), 0
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '%d+')) end
  end
  return last
end

local function finish()
  for field, by in pairs(counts) do
    if by ~= 0 then redis.call('HINCRBY', STATS, field, by) end
  end
  if #events > 0 then
    name_owners()
    -- Entry number = number of its last event, so a gap is a subtraction and MINID trims by events.
    local last = redis.call('HINCRBY', META, 'events', #events)
    if last == #events then
      last = last + last_in_stream()
      -- Numbers that begin (again) are told apart by the time they began.
      redis.call('HSET', META, 'events', last, 'epoch', now)
    end
    table.insert(events, 1, now)
    redis.call('XADD', P .. 'ev', 'MINID', '~', math.max(0, last - EVENTS_MAX), last .. '-0',
      'e', cmsgpack.pack(events))
  end
end
