-- Pause or resume a priority: fetch and recover start none of its tasks, in any queue, from now on.
-- KEYS[1] <P>meta
-- ARGV[1] priority (int, 0 to 3), [2] paused (int, 1 to pause or 0 to resume)
-- Returns: the priorities that are paused now (digits)
-- Emits: queue.paused, queue.resumed
-- Flags: allow-oom
local priority, is_wanted = ARGV[1], ARGV[2] == '1'
local paused = redis.call('HGET', META, 'paused_priorities') or ''
local is_paused = string.find(paused, priority, 1, true) ~= nil
if is_paused == is_wanted then return paused end
paused = is_wanted and paused .. priority or string.gsub(paused, priority, '')
if paused == '' then
  redis.call('HDEL', META, 'paused_priorities')
else
  redis.call('HSET', META, 'paused_priorities', paused)
end

if not is_wanted then
  redis.call('HSET', META, 'resumed:' .. priority, now)
  for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do ring(queue) end
  -- Held tasks are found by workers with a handler for them, who may be others than those.
  if redis.call('EXISTS', HELD) == 1 then
    local workers = redis.call('ZRANGEBYSCORE', P .. 'workers', now, '+inf', 'LIMIT', 0, 16)
    for _, worker in ipairs(workers) do call_worker(worker) end
  end
end
events[1] = { is_wanted and 'queue.paused' or 'queue.resumed', tonumber(priority) }
finish()
return paused
