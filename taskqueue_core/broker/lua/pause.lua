-- Pause or resume a worker: fetch hands a paused one nothing from this moment on.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- KEYS[3] <P>ctl:<worker>
-- ARGV[1] worker (name), [2] paused (int, 1 to pause or 0 to resume)
-- Returns: 1, or 0 when there is no such worker
-- Emits: worker.paused, worker.resumed
-- Flags: allow-oom
local known = redis.call('HMGET', KEYS[2], 'instance', 'paused')
if not known[1] then return 0 end
if (known[2] or '0') ~= ARGV[2] then
  redis.call('HSET', KEYS[2], 'paused', ARGV[2])
  local message, flag = 'resume', 'paused:' .. ARGV[1]
  if ARGV[2] == '1' then
    message = 'pause'
    redis.call('HSET', META, flag, '1')
  else
    redis.call('HDEL', META, flag)
  end
  send(KEYS[3], message)
  emit_worker('worker.' .. message .. 'd', ARGV[1], { state = ARGV[2] == '1' and 'paused' or 'idle' })
end
finish()
return 1
