-- Cancel a task that is not running; another owner's task is as good as none.
-- KEYS[1] <P>meta
-- KEYS[2] <P>t:<id>
-- ARGV[1] id (32 hex digits), [2] token of this call (text), [3] owner (name, '' for any)
-- Returns: '' when cancelled, '-' without such a task, else the letter of the state that forbids it
-- Transitions: pending -> cancelled, scheduled -> cancelled, retrying -> cancelled
-- Emits: task.cancelled
-- Flags: allow-oom
local id, token, owner = ARGV[1], ARGV[2], ARGV[3]
local t = redis.call('HMGET', KEYS[2], 's', 'y', 'm', 'q', 'p', 'a', 'x', 'O')
if not t[1] or owner ~= '' and t[8] ~= owner then return '-' end
-- A repeat of a call whose reply was lost: it did cancel the task.
if t[1] == 'x' and t[7] == token then return '' end
if t[1] ~= 'p' and t[1] ~= 's' and t[1] ~= 'y' then return t[1] end
cancel(id, KEYS[2], t, token)
leave_streams()
write_indexes()
finish()
return ''
