-- Remove a worker that has left, or one whose registration has expired, with its consumers.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- KEYS[3] <P>ctl:<worker>
-- ARGV[1] worker (name), [2] its instance (token, '' to remove it only if it has expired)
-- Returns: 1 removed, 0 not (another instance, still alive, or tasks that are not recovered yet)
-- Emits: worker.left
-- Flags: allow-oom
local worker, instance = ARGV[1], ARGV[2]
local known = redis.call('HMGET', KEYS[2], 'instance', 'concurrency')
local present = known[1]
if instance == '' then
  local expires = tonumber(redis.call('ZSCORE', P .. 'workers', worker) or 0)
  if present or expires > now then return 0 end
elseif present and present ~= instance then
  return 0
end

-- XGROUP DELCONSUMER would lose what is still pending for it, so look first.
local streams, is_owing = {}, false
for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
  for priority = 0, 3 do
    local stream = stream_key(queue, priority)
    local owed = redis.pcall('XPENDING', stream, GROUP, '-', '+', 1, worker)
    if not owed.err then
      if #owed > 0 then is_owing = true else streams[#streams + 1] = stream end
    end
  end
end
for _, stream in ipairs(streams) do redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, worker) end
if is_owing then return 0 end
redis.call('UNLINK', KEYS[2], KEYS[3], P .. 'call:' .. worker)
redis.call('HDEL', META, 'paused:' .. worker)
if redis.call('ZREM', P .. 'workers', worker) == 1 then
  emit_worker('worker.left', worker,
    { state = 'shutting_down', active_tasks = 0, concurrency = tonumber(known[2] or 0) })
end
finish()
return 1
