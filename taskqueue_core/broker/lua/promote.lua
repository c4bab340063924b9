-- Move due tasks from the schedule to their streams.
-- KEYS[1] <P>meta
-- ARGV[1] most tasks to move (int, <= 100)
-- Returns: tasks moved, ms to the next due task or -1
-- Transitions: scheduled -> pending, retrying -> pending
-- Emits: task.queued
-- Flags: allow-oom
local queues, moved = promote_due(math.min(100, tonumber(ARGV[1])))
for queue in pairs(queues) do ring(queue) end
finish()
return { moved, next_due() }
