-- Report outcomes and take tasks, in one round trip; either part may be empty.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- KEYS[3 ...] <P>q:<queue>:<priority> in the order they are to be read
-- ARGV[1] worker (name), [2] instance (token), [3] lane (int), [4] request number in it (int)
-- ARGV[5] tasks wanted (int, <= 100), [6] number of outcomes (int, <= 100)
-- ARGV[7 ...] the outcomes, nine arguments each, see outcomes.lua
-- Returns: now in ms, ms to the next due task or -1, queues version, 1 when registered, 1 when paused,
--   outcome codes, tasks as in take.lua
-- Transitions: pending -> running, scheduled -> pending, scheduled -> running, retrying -> pending,
--   retrying -> running
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
write_endings()
local promoted = promote_due(20)
local meta = redis.call('HMGET', META, 'queues_version', 'paused_priorities')
paused_priorities = meta[2]

-- The same request again: its reply was lost, so answer with the same tasks, except those that have
-- been given back since, even if this worker has them again by another request.
local function repeat_reply()
  for id, given in string.gmatch(known[4], '(%x+):(%d+)') do
    local t = read_task(id)
    if t[1] == 'r' and t[4] == given .. ':' .. instance then
      local place_of = redis.call('HMGET', task_key(id), 'q', 'p')
      hand_over(id, stream_key(place_of[1] or 'default', place_of[2] or '1'), t,
        tonumber(given), tonumber(t[5]), tonumber(t[6] or 0))
    end
  end
end

-- pcall: outcomes have been written already, and a stream of another type must not undo the rest.
local function read(stream, n)
  local command = { 'XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', n, 'STREAMS', stream, '>' }
  local answer = redis.pcall(unpack(command))
  if answer and answer.err then
    redis.pcall('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    answer = redis.pcall(unpack(command))
  end
  return answer and not answer.err and answer[1][2] or {}
end

-- Strict priority: a stream is read only when those before it are empty. Answers where it stopped,
-- past the last key when it has seen everything that may start. 100 entries that are no task to start
-- end it too.
local function take()
  local taken, at, skipped = {}, 3, 0
  while #taken < wanted and at <= #KEYS and skipped < 100 do
    local stream, n = KEYS[at], wanted - #taken
    local entries = may_start(stream) and read(stream, n) or {}
    if #entries < n then at = at + 1 end
    for _, entry in ipairs(entries) do
      local id = entry[2][2]
      local t = read_task(id)
      if t[1] == 'p' and t[3] == entry[1] then
        taken[#taken + 1] = id .. ':' .. start(id, stream, t, worker, instance)
      else
        skipped = skipped + 1
        -- A group made anew shows what is running, too: such an entry stays on the pending list,
        -- where its worker's heartbeat, or recover, finds it.
        if t[1] ~= 'r' or t[3] ~= entry[1] then
          leave(stream, entry[1])
          count('orphans')
        end
      end
    end
  end
  if #taken > 0 then
    redis.call('HSET', KEYS[2], 'n' .. lane, request, 'i' .. lane, table.concat(taken, ' '))
  end
  return at
end

-- What was put aside because its worker had no handler for it, and this one has.
local function promote_for_this_worker()
  if redis.call('EXISTS', HELD) == 0 then return end
  local types, served = redis.call('HGET', KEYS[2], 'types') or '', {}
  for i = 3, #KEYS do served[KEYS[i]] = may_start(KEYS[i]) end
  for queue in pairs(promote_held(types, served, wanted)) do promoted[queue] = true end
end

local at = 3
if is_known and known[3] == request then
  repeat_reply()
elseif is_known and not is_paused and wanted > 0 then
  promote_for_this_worker()
  leaving = {}
  at = take()
  leave_streams()
  -- There may be more: wake the next idle worker for what was not read to its end.
  for i = at, #KEYS do ring((place(KEYS[i]))) end
end
-- A promoted task may be another worker's to take, unless this one has seen its queue to the end.
if at > #KEYS then
  for i = 3, #KEYS do promoted[place(KEYS[i])] = nil end
end
for queue in pairs(promoted) do ring(queue) end
fill_bodies()
finish()
return { now, next_due(), tonumber(meta[1] or 0), is_known and 1 or 0, is_paused and 1 or 0, codes,
  handed }
