-- Accept up to 100 new tasks, each into its stream or the schedule.
-- KEYS[1] <P>meta
-- KEYS[2 ...] <P>t:<id>, one a task, then <P>idem:<record>, one a task that has a fingerprint
-- ARGV[1] number of tasks (int, <= 100), [2] 1: only those that have been submitted before (int)
-- ARGV[3 ...] ten a task: id (32 hex digits), type (name), queue (name), priority (int, 0 to 3),
--   max_retries (int or ''), timeout (s or ''), scheduled time (ms or ''), owner (name or ''),
--   fingerprint of an idempotent request (32 bytes or ''), body (JSON)
-- Returns: three per task: code (1 pending, 2 scheduled; 3, 4 the same, by a request before this one;
--   -1 backlog full, -2 too many queues, -3 the record is of another request), created in ms, id
--   ('' when it is the one that was given)
-- Transitions: none -> pending, none -> scheduled
-- Emits: task.submitted
-- Flags: refused when memory is full
local n, is_repeat = tonumber(ARGV[1]), ARGV[2] == '1'
if n > 100 then return redis.error_reply('ERR at most 100 tasks a call') end

local backlog = tonumber(redis.call('HGET', STATS, 'backlog') or 0)
local usable = {}
local function is_usable(queue)
  if usable[queue] == nil then
    usable[queue] = redis.call('ZCARD', QUEUES) < MAX_QUEUES
      or redis.call('ZSCORE', QUEUES, queue) ~= false
    if usable[queue] then open_queue(queue) end
  end
  return usable[queue]
end

-- The id that a repeated request gave this task when it came first, nil when the record is of
-- another request. Ids of a request are alike but for the last two bytes.
local function first_id(kept, fingerprint, id)
  if string.sub(kept, 1, 32) ~= fingerprint then return nil end
  return string.sub(kept, 33) .. string.sub(id, 29)
end

local reply, accepted, waiting, named = {}, 0, {}, 1 + n
for i = 1, n do
  local at = 3 + 10 * (i - 1)
  local key, given, queue, fingerprint = KEYS[1 + i], ARGV[at], ARGV[at + 2], ARGV[at + 8]
  local id, record, kept = given, nil, nil
  if fingerprint ~= '' then
    named = named + 1
    record = KEYS[named]
    kept = redis.call('GET', record)
    if kept then id = first_id(kept, fingerprint, given) end
    if id and id ~= given then key = task_key(id) end
  end
  local known = id and redis.call('HMGET', key, 's', 'm', 'c', 'z')
  local code, created = 1, now
  if not id then
    code = -3
  elseif known[1] then
    -- A repeat of a call whose reply was lost, or of a request: the same answer again.
    created = tonumber(created_at(known[3], known[2]))
    if known[4] and tonumber(known[4]) > created then code = 2 end
    if id ~= given then code = code + 2 end
  elseif is_repeat or backlog + accepted >= MAX_BACKLOG then
    code = -1
  elseif not is_usable(queue) then
    code = -2
  else
    local state
    state, created = accept(key, id, at)
    accepted = accepted + 1
    if record and not kept then
      redis.call('SET', record, fingerprint .. string.sub(id, 1, 28), 'PX', IDEMPOTENCY_MS)
    end
    if state == 'p' then waiting[queue] = true else code = 2 end
  end
  reply[3 * i - 2], reply[3 * i - 1], reply[3 * i] = code, created, id ~= given and id or ''
end

if #bodies > 0 then redis.call('MSET', unpack(bodies)) end
-- From now on events say whose their tasks are, see finish().
if has_owner then redis.call('HSET', META, 'owners', 1) end
count('backlog', accepted)
for queue in pairs(waiting) do ring(queue) end
finish()
return reply
