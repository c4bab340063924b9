-- Shared by cancel and purge: cancel(id, key, t, token) with t the fields s y m q p a of the task.
local function cancel(id, key, t, token)
  local priority = t[5] or '1'
  if t[1] == 'p' then
    leave(stream_key(t[4] or 'default', priority), t[3])
  else
    redis.call('ZREM', SCHEDULE, id)
    if t[1] == 's' and redis.call('HEXISTS', key, 'i') == 1 then bring_back(t[2], { id }) end
  end
  redis.call('HSET', key, 's', 'x', 'e', now, 'x', token)
  index(DONE, now + RETENTION_MS, id)
  count('backlog', -1)
  count('finished:' .. label(t[2]) .. ':cancelled')
  emit('task.cancelled', id, t[2], priority, 'x', t[6] or 0)
end
