-- Tell what dead letters died of.
-- KEYS[1] <P>meta
-- KEYS[2 ...] <P>t:<id>, at most 100
-- Returns: four per task: type ('' for one that is no dead letter), queue, reason, at most 256 bytes of
--   the error
-- Flags: no-writes
local reply = {}
for i = 2, math.min(101, #KEYS) do
  local t, at = redis.call('HMGET', KEYS[i], 's', 'y', 'q', 'k', 'v', 'V'), 4 * (i - 2)
  local error = t[6] == '1' and redis.call('GETRANGE', result_key(string.sub(KEYS[i], #P + 3)), 0, 255)
    or string.sub(t[5] or '', 1, 256)
  if t[1] ~= 'd' then t, error = {}, '' end
  reply[at + 1], reply[at + 2] = t[2] or '', t[3] or 'default'
  reply[at + 3], reply[at + 4] = t[4] or '', error
end
return reply
