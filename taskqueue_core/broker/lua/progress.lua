-- Tell how far running tasks are; the tasks themselves do not change.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- ARGV[1] worker (name), [2] instance (token), [3] request number (int), [4] tasks (int, <= 100)
-- ARGV[5 ...] four a task: id, delivery number (int), fraction that is done (0 to 1), message (text)
-- Returns: per task 1, or 0 when it does not run under that delivery number (any more)
-- Emits: task.progress
-- Flags: refused when memory is full
local worker, instance, request, n = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if n > 100 then return redis.error_reply('ERR at most 100 tasks a call') end
local known = redis.call('HMGET', KEYS[2], 'instance', 'told')
local is_known, is_repeated = known[1] == instance, known[2] == request

local codes = {}
for i = 1, n do
  local at = 4 * i + 1
  local id = ARGV[at]
  local t = redis.call('HMGET', task_key(id), 's', 'f', 'y', 'p', 'a')
  local is_held = t[1] == 'r' and t[2] == ARGV[at + 1] .. ':' .. instance
  codes[i] = is_known and is_held and 1 or 0
  if codes[i] == 1 and not is_repeated then
    emit('task.progress', id, t[3], t[4] or '1', 'r', t[5], { worker_id = worker,
      fraction = tonumber(ARGV[at + 2]), message = ARGV[at + 3] ~= '' and ARGV[at + 3] or nil })
  end
end
-- A registration that has run out must not be made again without its time to live.
if is_known then redis.call('HSET', KEYS[2], 'told', request) end
finish()
return codes
