-- Renew a worker's registration and leases, add up its measurements, give back what it forgot.
-- KEYS[1] <P>meta
-- KEYS[2] <P>w:<worker>
-- KEYS[3 ...] <P>q:<queue>:<priority> to look for forgotten tasks in (may be none)
-- ARGV[1] worker (name), [2] instance (token), [3] request number (int), [4] running tasks (int)
-- ARGV[5] age of a forgotten task (ms), [6] types (int), [7] counters (int), [8] leases (int, <= 100)
-- ARGV[9] tasks completed and attempts failed a second, busy and idle seconds (four numbers, text)
-- ARGV[10 ...] the types (names), the counters (field, increment) and the leases (id, delivery number)
-- Returns: now in ms, 1 when registered, 1 when paused, per lease 1 held, 2 held but asked to stop or
--   0 lost, queues version
-- Transitions: running -> running, running -> pending, running -> cancelled
-- Emits: task.queued, task.cancelled
-- Flags: allow-oom
local worker, instance, request = ARGV[1], ARGV[2], ARGV[3]
local n_types, n_counters, n_leases = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
if n_leases > 100 then return redis.error_reply('ERR at most 100 leases a call') end
local at = 10

local known = redis.call('HMGET', KEYS[2], 'instance', 'paused', 'beat', 'types')
if known[1] ~= instance then return { now, 0, 0, {}, 0 } end

-- Later than a lease after the last one: it was the broker that was away, see recover.lua.
local last = tonumber(redis.call('HGET', META, 'heartbeat') or now)
if now - last > LEASE_MS then
  redis.call('HSET', META, 'grace', now + math.floor(LEASE_MS / 3) + 1000)
end
redis.call('HSET', META, 'heartbeat', now)
redis.call('HSET', KEYS[2], 'heartbeat', now, 'active', ARGV[4], 'beat', request,
  'rates', ARGV[9])
redis.call('PEXPIRE', KEYS[2], LEASE_MS)
redis.call('ZADD', P .. 'workers', now + LEASE_MS, worker)

local types = P .. 'types'
for i = at, at + n_types - 1 do
  if redis.call('ZCARD', types) < MAX_TYPES or redis.call('ZSCORE', types, ARGV[i]) then
    redis.call('ZADD', types, now, ARGV[i])
  end
end
at = at + n_types
-- By these it finds held tasks, see due.lua; its first beat comes before its first fetch.
local names = ' ' .. table.concat(ARGV, ' ', 10, at - 1) .. ' '
if n_types > 0 and known[4] ~= names then redis.call('HSET', KEYS[2], 'types', names) end

-- Types begin with a letter, other labels do not: those that are no labels share one here, too.
local function labelled(field)
  local name, task_type, rest = string.match(field, '^([^:]+):(%a[^:]*)(.*)$')
  return task_type and name .. ':' .. label(task_type) .. rest or field
end

-- A repeat of a call whose reply was lost must not count twice.
if known[3] ~= request then
  for i = at, at + 2 * n_counters - 1, 2 do count(labelled(ARGV[i]), tonumber(ARGV[i + 1])) end
end
at = at + 2 * n_counters

local codes, claims, named = {}, {}, {}
for i = 1, n_leases do
  local t = redis.call('HMGET', task_key(ARGV[at]), 's', 'f', 'm', 'q', 'p', 'X')
  local is_held = t[1] == 'r' and t[2] == ARGV[at + 1] .. ':' .. instance
  codes[i] = not is_held and 0 or t[6] and 2 or 1
  if is_held then
    local stream = stream_key(t[4] or 'default', t[5] or '1')
    local claim = claims[stream] or { 'XCLAIM', stream, GROUP, worker, 0 }
    claims[stream] = claim
    claim[#claim + 1] = t[3]
    named[ARGV[at]] = true
  end
  at = at + 2
end
for _, claim in pairs(claims) do
  claim[#claim + 1] = 'JUSTID'
  -- pcall: without its stream or group, one task must not cost the worker all its leases.
  redis.pcall(unpack(claim))
end

-- What this worker was given but does not name was in a reply that it never saw. What is pending for
-- its name but belongs to another instance, or was never started, is recover's.
local function give_back(stream, entry_id)
  local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
  local id = entry and entry[2][2]
  local t = id and redis.call('HMGET', task_key(id), 's', 'y', 'm', 'f', 'a', 'c', 'X') or {}
  if named[id] then return end
  if t[3] ~= entry_id or (t[1] ~= 'r' and t[1] ~= 'p') then
    leave(stream, entry_id)
  elseif t[1] == 'r' and string.match(t[4], ':(.*)$') == instance then
    leave(stream, entry_id)
    local queue, priority = string.match(stream, ':q:(.*):(%d)$')
    release({ id = id, key = task_key(id) }, { type = t[2], queue = queue, priority = priority,
      attempts = tonumber(t[5]), created = created_at(t[6], t[3]), is_cancelled = t[7] })
  end
end

local looked = 0
for i = 3, #KEYS do
  if looked == 100 then break end
  local idle = redis.pcall('XPENDING', KEYS[i], GROUP, 'IDLE', ARGV[5], '-', '+', 100 - looked,
    worker)
  if not idle.err then
    looked = looked + #idle
    for _, entry in ipairs(idle) do give_back(KEYS[i], entry[1]) end
  end
end
write_endings()
finish()
return { now, 1, known[2] == '1' and 1 or 0, codes,
  tonumber(redis.call('HGET', META, 'queues_version') or 0) }
