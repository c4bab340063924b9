-- Report outcomes and take tasks, in one round trip; either part may be empty.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- KEYS[3 ...] <P>q:<queue>:<priority> in the order they are to be read
-- ARGV[1] worker, [2] instance, [3] lane, [4] request number in this lane, [5] tasks wanted (<= 100)
-- ARGV[6] number of outcomes (<= 100), [7 ...] the outcomes, see outcomes.lua
-- Returns: now in ms, ms to the next due task or -1, queues version, 1 when registered, 1 when paused, outcome codes, tasks as in take.lua
-- Transitions: pending -> running, scheduled -> pending, scheduled -> running, retrying -> pending, retrying -> running
-- Emits: task.started, task.queued
-- Flags: allow-oom
local worker, instance, lane, request = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local wanted, reported = tonumber(ARGV[5]), tonumber(ARGV[6])
if wanted > 100 or reported > 100 then
  return redis.error_reply('ERR at most 100 tasks and outcomes a call')
end

local known = redis.call('HMGET', KEYS[2], 'instance', 'paused', 'n' .. lane, 'i' .. lane)
local is_known, is_paused = known[1] == instance, known[2] == '1'
local codes = settle(reported, 7, worker, instance)
write_outcomes()
promote_due(20)

-- The same request again: its reply was lost, so answer with the same tasks.
local function repeat_reply()
  for id in string.gmatch(known[4], '%x+') do
    local t = read_task(id)
    local number, owner = string.match(t[4] or '', '^(%d+):(.*)$')
    if t[1] == 'r' and owner == instance then
      local place_of = redis.call('HMGET', task_key(id), 'q', 'p')
      hand_over(id, stream_key(place_of[1] or 'default', place_of[2] or '1'), t,
        tonumber(number), tonumber(t[5]), tonumber(t[6] or 0))
    end
  end
end

local function read(stream, n)
  local command = { 'XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', n, 'STREAMS', stream, '>' }
  local answer = redis.pcall(unpack(command))
  if answer and answer.err then
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    answer = redis.call(unpack(command))
  end
  return answer and answer[1][2] or {}
end

-- Strict priority: a stream is read only when those before it are empty.
local function take()
  local ids, at = {}, 3
  while #ids < wanted and at <= #KEYS do
    local stream = KEYS[at]
    local entries = read(stream, wanted - #ids)
    if #entries < wanted - #ids then at = at + 1 end
    for _, entry in ipairs(entries) do
      local id = entry[2][2]
      local t = read_task(id)
      if t[1] == 'p' and t[3] == entry[1] then
        start(id, stream, t, worker, instance)
        ids[#ids + 1] = id
      else
        leave(stream, entry[1])
        count('orphans')
      end
    end
  end
  if #ids == 0 then return end
  redis.call('HSET', KEYS[2], 'n' .. lane, request, 'i' .. lane, table.concat(ids, ' '))
  if #ids == wanted then
    -- There may be more: wake the next idle worker for what was not read to its end.
    for i = at, #KEYS do ring((place(KEYS[i]))) end
  end
end

if is_known and known[3] == request then
  repeat_reply()
elseif is_known and not is_paused and wanted > 0 then
  leaving = {}
  take()
  leave_streams()
end
fill_bodies()
finish()
return { now, next_due(), tonumber(redis.call('HGET', META, 'queues_version') or 0),
  is_known and 1 or 0, is_paused and 1 or 0, codes, handed }
