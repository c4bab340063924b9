-- Put tasks back into the place that their states name, and take away what is no task's place.
-- KEYS[1] <P>meta
-- KEYS[2 ...] <P>q:<queue>:<priority> to look through (one or none)
-- ARGV[1] entry to look from (text, '' for none), [2] pending entry to look from (text, '' for none)
-- ARGV[3] last entry to look at (text, '' for the last there is)
-- ARGV[4] whether to correct the backlog (int, 1 or 0)
-- ARGV[5] type among whose held tasks the ids are, or that has none left (name, '' for neither)
-- ARGV[6 ...] ids to look at (text, at most 100)
-- Returns: entry and pending entry to look from next or '', the last entry that '' stood for, and
--   two per repair: code, see repair.py, and what was repaired
-- Transitions: pending -> pending, running -> running, running -> pending, running -> cancelled
-- Emits: task.queued, task.cancelled
-- Flags: allow-oom
if #ARGV > 105 then return redis.error_reply('ERR at most 100 tasks a call') end

-- An entry stays only if its task says that it is there. Of a damaged task nobody can tell.
local function check_stray(stream, entry, id)
  local t = read(id)
  if t.exists and not t.is_sound then return end
  if t.exists and t.is_in_stream and t.stream == stream and t.entry == entry then return end
  fix(8, stream .. ' ' .. entry, function() leave(stream, entry) end)
end

-- None in an error: a stream or group that is not there has nothing to look through.
local function following(rows)
  return #rows == 100 and '(' .. rows[100][1] or ''
end

local function look_through(stream, from, last)
  local rows = redis.pcall('XRANGE', stream, from, last, 'COUNT', 100)
  for _, row in ipairs(rows) do check_stray(stream, row[1], row[2][2]) end
  return following(rows)
end

local function look_through_pending(stream, from, last)
  local rows = redis.pcall('XPENDING', stream, GROUP, from, last, 100)
  for _, row in ipairs(rows) do
    if #redis.call('XRANGE', stream, row[1], row[1]) == 0 then
      fix(9, stream .. ' ' .. row[1], function() leave(stream, row[1]) end)
    end
  end
  return following(rows)
end

-- What is added meanwhile is in its place, and need not be looked at.
local function last_entry(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  for i = 1, info.err and 0 or #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  return '0-0'
end

-- At any moment as many tasks are unfinished as are in the places for those.
local function check_backlog()
  local unfinished = redis.call('ZCARD', SCHEDULE)
  for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
    for priority = 0, 3 do
      local length = redis.pcall('XLEN', stream_key(queue, priority))
      if type(length) ~= 'number' then return end
      unfinished = unfinished + length
    end
  end
  local missing = unfinished - tonumber(redis.call('HGET', STATS, 'backlog') or 0)
  if missing ~= 0 then fix(10, missing, function() count('backlog', missing) end) end
end

-- Without this, no event could be written: an entry's number must be greater than all before.
local function check_events()
  local last = redis.call('XREVRANGE', P .. 'ev', '+', '-', 'COUNT', 1)[1]
  local number = last and tonumber(string.match(last[1], '^%d+')) or 0
  if number <= tonumber(redis.call('HGET', META, 'events') or 0) then return end
  fix(11, number, function()
    redis.call('HSET', META, 'events', number)
    redis.call('HSETNX', META, 'epoch', now)
  end)
end

local next_entry, next_pending, last = '', '', ARGV[3]
check_events()
if KEYS[2] then
  if last == '' then last = last_entry(KEYS[2]) end
  if ARGV[1] ~= '' then next_entry = look_through(KEYS[2], ARGV[1], last) end
  if ARGV[2] ~= '' then next_pending = look_through_pending(KEYS[2], ARGV[2], last) end
end
local seen = {}
for i = 6, #ARGV do
  if not seen[ARGV[i]] then check(ARGV[i], ARGV[5]) end
  seen[ARGV[i]] = true
end
if ARGV[5] ~= '' and #ARGV == 5 then check_held_type(ARGV[5]) end
if ARGV[4] == '1' then check_backlog() end
for _, write in ipairs(writes) do write() end
call_workers()
write_endings()
finish()
return { next_entry, next_pending, last, unpack(repairs) }
