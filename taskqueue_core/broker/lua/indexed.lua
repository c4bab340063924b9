-- Of repair: what is wrong with a task in the indexes, or with an id that is no task.
local function put_back(t, set)
  local score = t.ended or now
  if set == SCHEDULE then
    score = t.due or now
    ring(t.queue)
  elseif set == DONE then
    score = math.max(score, t.updated or 0) + RETENTION_MS
  end
  index(set, score, t.id)
end

local function check_remains(id, found)
  local parts = { body_key(id), result_key(id), history_key(id) }
  if not next(found) and redis.call('EXISTS', unpack(parts)) == 0 then return end
  fix(7, id, function()
    for set in pairs(found) do redis.call('ZREM', set, id) end
    redis.call('UNLINK', unpack(parts))
  end)
end

-- `among` is the type among whose held tasks the id was found, or ''. What is put aside is noted by
-- call_workers().
local function check_held(t, among)
  if among ~= '' and not (t.held_since and t.type == among) then
    fix(13, t.id, function() bring_back(among, { t.id }) end)
  end
  if not t.held_since then return end
  local is_there = redis.call('ZSCORE', held_key(t.type), t.id)
  if not is_there or redis.call('SISMEMBER', HELD, t.type) == 0 then
    fix(12, t.id, function() put_aside(t.id, t.type, t.priority, t.held_since) end)
  end
end

local function check_held_type(task_type)
  if redis.call('EXISTS', held_key(task_type)) == 1 then return end
  if redis.call('SISMEMBER', HELD, task_type) == 0 then return end
  fix(14, task_type, function() redis.call('SREM', HELD, task_type) end)
end

-- Without this, no event says whose its task is.
local are_owners_noted = false
local function check_owner(t)
  if are_owners_noted or not t.owner then return end
  are_owners_noted = true
  if redis.call('HEXISTS', META, 'owners') == 1 then return end
  fix(15, '', function() redis.call('HSET', META, 'owners', 1) end)
end

-- Only who runs it can be asked to stop.
local function check_asked(t)
  if not t.is_cancelled or t.state == 'r' then return end
  fix(17, t.id, function() redis.call('HDEL', t.key, 'X') end)
end

local function check(id, among)
  local found = {}
  for _, set in ipairs({ SCHEDULE, DONE, DEAD }) do
    if redis.call('ZSCORE', set, id) then found[set] = true end
  end
  local t = read(id)
  if t.exists and not t.is_sound then return end
  check_held(t, among)
  check_owner(t)
  check_asked(t)
  if not t.exists then return check_remains(id, found) end
  local home = INDEXES[t.state]
  if t.is_in_stream then
    check_entry(t)
  elseif not found[home] then
    fix(5, id, function() put_back(t, home) end)
  end
  for set in pairs(found) do
    if set ~= home then fix(6, id, function() redis.call('ZREM', set, id) end) end
  end
end
