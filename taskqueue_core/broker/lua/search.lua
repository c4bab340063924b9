-- Look through tasks, place by place, for those that are wanted.
-- KEYS[1] <P>meta
-- ARGV[1] most tasks to look at (int, <= 100), [2] most to find (int)
-- ARGV[3] bytes of bodies to look through before the last task (int)
-- ARGV[4] places to go through (digits), [5] first, [6] second, [7] third part of the position in the
--   first of them to go on behind (texts, '' to begin there)
-- ARGV[8] states (letters), [9] type (name), [10] queue (name), [11] priority (int), [12] created from
--   (ms), [13] created before (ms), [14] reason (text), [15] part of the error (text); '' for any
-- ARGV[16 ...] names and values of metadata (JSON texts)
-- Returns: 1 when all was looked through, else 0; place and position of the last one looked at; the
--   tasks found, six each: place, position, id, bytes of its body and result
-- Flags: no-writes
local most, wanted, budget = math.min(100, tonumber(ARGV[1])), tonumber(ARGV[2]), tonumber(ARGV[3])
local states, task_type, queue_wanted, priority_wanted = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local from, before = tonumber(ARGV[12]) or 0, tonumber(ARGV[13]) or math.huge
-- A place is 1 running, 2 waiting, 3 scheduled and retrying, 4 dead letters, 5 ended. A position is
-- priority, queue and entry id in the streams of the first two; else score, '' and id.
local STATES = { ['1'] = 'rp', ['2'] = 'p', ['3'] = 'sy', ['4'] = 'd', ['5'] = 'cxf' }
local looked, found, last = 0, {}, { '', '', '', '' }

local function is_full() return looked >= most or #found >= 6 * wanted or budget < 0 end

-- Whether the metadata may be what is wanted: its names and values are in the body, or it has an
-- escape, behind which anything can be. The caller looks at the metadata itself, and at large bodies.
local function may_have_metadata(id, body, size)
  if #ARGV < 16 or size > 65536 then return true end
  body = body or redis.call('GET', body_key(id)) or ''
  budget = budget - size
  for i = 16, #ARGV do
    if not string.find(body, ARGV[i], 1, true) then return string.find(body, '\\', 1, true) end
  end
  return true
end

local function look(place, a, b, c, id)
  looked, last = looked + 1, { place, a, b, c }
  local t = redis.call('HMGET', task_key(id), unpack(LOOKED_AT))
  if not t[1] or not string.find(STATES[place], t[1], 1, true) then return end
  if b ~= '' and t[5] ~= c then return end
  if states ~= '' and not string.find(states, t[1], 1, true) then return end
  if priority_wanted ~= '' and (t[4] or '1') ~= priority_wanted then return end
  local created = tonumber(created_at(t[6], t[5]))
  if created < from or created >= before then return end
  if not fits(id, t, task_type, queue_wanted, ARGV[14], ARGV[15]) then return end
  local size = t[8] and #t[8] or redis.call('STRLEN', body_key(id))
  if not may_have_metadata(id, t[8], size) then return end
  size = size + (t[10] == '1' and redis.call('STRLEN', result_key(id)) or #(t[9] or ''))
  for _, value in ipairs({ place, a, b, c, id, size }) do found[#found + 1] = value end
end

local function split(entry)
  local ms, number = string.match(entry, '^(%d+)-(%d+)$')
  return tonumber(ms or 0), tonumber(number or 0)
end

local function later(one, other)
  local ms, number = split(one)
  local other_ms, other_number = split(other)
  return (ms > other_ms or ms == other_ms and number > other_number) and one or other
end

-- A task is created before its entry is: entries older than `from` are passed over unread.
local function walk_stream(place, priority, queue, entry)
  local stream = stream_key(queue, priority)
  local after = later(entry, string.format('%.0f-0', math.max(0, from - 1)))
  if place == '1' then
    local rows = redis.pcall('XPENDING', stream, GROUP, '(' .. after, '+', most - looked)
    for _, row in ipairs(rows.err and {} or rows) do
      if is_full() then return end
      local content = redis.call('XRANGE', stream, row[1], row[1])[1]
      look(place, priority, queue, row[1], content and content[2][2] or '')
    end
    return
  end
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, group in ipairs(groups.err and {} or groups) do
    for i = 1, #group, 2 do
      local is_ours = group[i] == 'last-delivered-id' and group[2] == GROUP
      if is_ours then after = later(after, group[i + 1]) end
    end
  end
  for _, row in ipairs(redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', most - looked)) do
    if is_full() then return end
    look(place, priority, queue, row[1], row[2][2])
  end
end

local function walk_streams(place, a, b, c)
  local queues = queue_wanted ~= '' and { queue_wanted } or redis.call('ZRANGE', QUEUES, 0, -1)
  table.sort(queues)
  for priority = 3, 0, -1 do
    local is_wanted = priority_wanted == '' or tonumber(priority_wanted) == priority
    for _, queue in ipairs(is_wanted and queues or {}) do
      local is_here = a == '' or priority < tonumber(a) or priority == tonumber(a) and queue >= b
      if is_here and redis.call('XLEN', stream_key(queue, priority)) > 0 then
        local goes_on = tostring(priority) == a and queue == b
        walk_stream(place, tostring(priority), queue, goes_on and c or '0-0')
        if is_full() then return end
      end
    end
  end
end

local function walk_set(place, score, id)
  local key = place == '3' and SCHEDULE or place == '4' and DEAD or DONE
  local step = place == '3' and step_up or step_down
  local ids, scores = step(key, score, id, most - looked)
  for i, member in ipairs(ids) do
    if is_full() then return end
    look(place, scores[i], '', member, member)
  end
end

local a, b, c = ARGV[5], ARGV[6], ARGV[7]
for place in string.gmatch(ARGV[4], '%d') do
  if is_full() then break end
  if place == '1' or place == '2' then walk_streams(place, a, b, c) else walk_set(place, a, c) end
  a, b, c = '', '', ''
end
return { is_full() and 0 or 1, last, found }
