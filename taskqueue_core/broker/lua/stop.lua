-- Mark a worker as shutting down: it stays registered until its last task has ended.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- ARGV[1] instance (token)
-- Returns: 1, or 0 when the registration is another's or gone
-- Flags: allow-oom
if redis.call('HGET', KEYS[2], 'instance') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'stopping', '1')
return 1
