-- Cancel a task, or ask the one that runs it to stop; another owner's task is as good as none.
-- KEYS[1] <P>meta
-- KEYS[2] <P>t:<id>
-- ARGV[1] id (32 hex digits), [2] token of this call (text), [3] owner (name, '' for any)
-- ARGV[4] whether a running task is asked to stop (int, 1 or 0)
-- Returns: '' when cancelled, '+' when it runs and was asked to stop, '-' without such a task, else
--   the letter of the state that forbids it
-- Transitions: pending -> cancelled, scheduled -> cancelled, retrying -> cancelled,
--   running -> running
-- Emits: task.cancelled
-- Flags: allow-oom
local id, token, owner = ARGV[1], ARGV[2], ARGV[3]
local t = redis.call('HMGET', KEYS[2], 's', 'y', 'm', 'q', 'p', 'a', 'x', 'O', 'X', 'f', 'w')
if not t[1] or owner ~= '' and t[8] ~= owner then return '-' end
-- A repeat of a call whose reply was lost: it did cancel the task, or ask for it.
if t[1] == 'x' and t[7] == token then return '' end
if t[7] == token and ARGV[4] == '1' then return '+' end
if t[1] == 'r' and ARGV[4] == '1' then
  redis.call('HSET', KEYS[2], 'X', 1, 'x', token)
  -- Asked for twice, it is told once: a message that is lost is made up for by the next heartbeat.
  if not t[9] and t[11] then
    send(control_key(t[11]), 'cancel ' .. id .. ' ' .. string.match(t[10] or '0', '^%d+'))
  end
  return '+'
end
if t[1] ~= 'p' and t[1] ~= 's' and t[1] ~= 'y' then return t[1] end
-- A worker of an older version may have sent it on although it was asked to stop.
if t[9] then redis.call('HDEL', KEYS[2], 'X') end
cancel(id, KEYS[2], t, token)
leave_streams()
write_indexes()
finish()
return ''
