-- Send an ended task back to the queue, with another body if there is one.
-- KEYS[1] <P>meta
-- KEYS[2] <P>t:<id>
-- ARGV[1] id (32 hex digits), [2] token of this call (text), [3] dead letters only (int, 1 or 0)
-- ARGV[4] '<death in ms>-<delivery number>' it must match (text, '' for any), [5] body (JSON, '' to
--   keep its own)
-- Returns: '' when queued, '-' without such a task or dead letter, else the letter of the state that
--   forbids it
-- Transitions: failed -> pending, dead_letter -> pending, cancelled -> pending
-- Emits: task.queued
-- Flags: refused when memory is full
local id, token = ARGV[1], ARGV[2]
local t = redis.call('HMGET', KEYS[2], 's', 'y', 'm', 'q', 'p', 'c', 'x', 'f')
if not t[1] then return '-' end
if t[7] == token then return '' end
if ARGV[3] == '1' then
  if t[1] ~= 'd' then return '-' end
  local death = redis.call('ZSCORE', DEAD, id)
  local number = string.match(t[8] or '0', '^%d+')
  if ARGV[4] ~= '' and ARGV[4] ~= string.format('%.0f-%s', tonumber(death or 0), number) then
    return '-'
  end
elseif t[1] ~= 'f' and t[1] ~= 'd' and t[1] ~= 'x' then
  return t[1]
end
if #ARGV[5] > 64 then
  redis.call('SET', body_key(id), ARGV[5])
  redis.call('HDEL', KEYS[2], 'b')
elseif ARGV[5] ~= '' then
  redis.call('UNLINK', body_key(id))
  redis.call('HSET', KEYS[2], 'b', ARGV[5])
end
restart(id, KEYS[2], t, token)
finish()
return ''
