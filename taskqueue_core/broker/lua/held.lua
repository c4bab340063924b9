-- Shared by the scripts that put tasks aside or bring them back: the index of held tasks by type, in
-- which a worker finds those that it has a handler for, and the bell that tells it so.
local HELD = P .. 'held'
local function held_key(task_type) return P .. 'hold:' .. task_type end

-- Critical tasks first, then the ones that have waited longest.
local asides = {}
local function put_aside(id, task_type, priority, since)
  asides[task_type] = true
  index(held_key(task_type), (3 - tonumber(priority)) * 1e13 + since, id)
end

local function bring_back(task_type, ids)
  redis.call('ZREM', held_key(task_type), unpack(ids))
  if redis.call('EXISTS', held_key(task_type)) == 0 then redis.call('SREM', HELD, task_type) end
end

-- The bell of one worker, for what is not meant for just anybody.
local function call_worker(worker)
  local bell = P .. 'call:' .. worker
  if redis.call('LLEN', bell) == 0 then redis.call('LPUSH', bell, '1') end
  redis.call('PEXPIRE', bell, LEASE_MS)
end

local function has_aside(types)
  for task_type in pairs(asides) do
    if string.find(types, ' ' .. task_type .. ' ', 1, true) then return true end
  end
  return false
end

-- Ring for workers with a handler for what was put aside: up to 16 of the first 100 that are alive,
-- in turn. A worker that is not called finds out when it next fetches, seconds later.
local function call_workers()
  if not next(asides) then return end
  for task_type in pairs(asides) do redis.call('SADD', HELD, task_type) end
  local workers = redis.call('ZRANGEBYSCORE', P .. 'workers', now, '+inf', 'LIMIT', 0, 100)
  local called = 0
  for i = 1, #workers do
    local worker = workers[(now + i) % #workers + 1]
    local types = redis.call('HGET', worker_key(worker), 'types')
    if called < 16 and types and has_aside(types) then
      call_worker(worker)
      called = called + 1
    end
  end
end
