-- Shared by retry and redrive. restart(id, key, t, token) sends an ended task back to the queue as
-- if new; t holds the fields s y m q p c of the task. Attempts and lost leases start again at 0,
-- the last result or error goes, deliveries go on counting.
local function restart(id, key, t, token)
  local queue, priority = t[4] or 'default', t[5] or '1'
  local entry = enqueue(id, queue, priority)
  redis.call('HDEL', key, 'a', 'l', 'o', 'v', 'V', 'k', 'i', 'n', 'w', 'g', 'e', 'X')
  redis.call('HSET', key, 's', 'p', 'm', entry, 'u', now, 'c', created_at(t[6], t[3]), 'x', token)
  redis.call('UNLINK', result_key(id))
  redis.call('ZREM', t[1] == 'd' and DEAD or DONE, id)
  count('backlog')
  count('retried:' .. label(t[2]))
  ring(queue)
  emit('task.queued', id, t[2], priority, 'p', 0)
end
