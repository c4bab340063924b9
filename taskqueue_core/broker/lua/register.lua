-- Announce a worker.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- ARGV[1] worker (name), [2] instance (token), [3] concurrency (int), [4] version (text)
-- ARGV[5] queues (JSON), [6] handlers (JSON), [7] schemas of payloads and results (JSON)
-- ARGV[8] process id and host name (text)
-- Returns: 1, or 0 when a live worker of another instance has the name; ms until that one expires
-- Emits: worker.joined
-- Flags: allow-oom
local present = redis.call('HGET', KEYS[2], 'instance')
if present and present ~= ARGV[2] then return { 0, redis.call('PTTL', KEYS[2]) } end
redis.call('HSET', KEYS[2], 'instance', ARGV[2], 'concurrency', ARGV[3], 'version', ARGV[4],
  'queues', ARGV[5], 'handlers', ARGV[6], 'schemas', ARGV[7], 'process', ARGV[8],
  'heartbeat', now)
redis.call('HSETNX', KEYS[2], 'started', now)
redis.call('PEXPIRE', KEYS[2], LEASE_MS)
redis.call('ZADD', P .. 'workers', now + LEASE_MS, ARGV[1])
if not present then
  -- A pause outlives the registration: an outage longer than the lease must not lift it.
  if redis.call('HEXISTS', META, 'paused:' .. ARGV[1]) == 1 then
    redis.call('HSET', KEYS[2], 'paused', '1')
  end
  emit_worker('worker.joined', ARGV[1],
    { state = 'idle', active_tasks = 0, concurrency = tonumber(ARGV[3]) })
end
finish()
return { 1, LEASE_MS }
