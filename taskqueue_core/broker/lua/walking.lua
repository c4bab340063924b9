-- Shared by search, tally and redrive: going through a sorted set in steps, and what is looked for.
-- A place in a set is a score and an id; members of one score are in the order of their ids.
local LOOKED_AT = { 's', 'y', 'q', 'p', 'm', 'c', 'k', 'b', 'v', 'V' }

-- How many members come before a place, the one there included or not. Its score may be that of very
-- many, and the member itself may be gone.
local function members_before(key, score, id, is_included)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = redis.call('ZRANGE', key, middle, middle)[1]
    if member < id or is_included and member == id then low = middle + 1 else high = middle end
  end
  return low
end

-- The next `most` members behind a place, or from the first on: a list of ids, a list of scores.
local function step_up(key, score, id, most)
  local first = score == '' and 0 or members_before(key, score, id, true)
  local rows, ids, scores = redis.call('ZRANGE', key, first, first + most - 1, 'WITHSCORES'), {}, {}
  for i = 1, #rows, 2 do ids[#ids + 1], scores[#scores + 1] = rows[i], rows[i + 1] end
  return ids, scores
end

-- The same downwards, from the last on.
local function step_down(key, score, id, most)
  local past = score == '' and redis.call('ZCARD', key) or members_before(key, score, id, false)
  if past == 0 then return {}, {} end
  local rows, ids, scores = redis.call('ZRANGE', key, math.max(0, past - most), past - 1,
    'WITHSCORES'), {}, {}
  for i = #rows - 1, 1, -2 do ids[#ids + 1], scores[#scores + 1] = rows[i], rows[i + 1] end
  return ids, scores
end

local function error_of(id, t)
  return t[10] == '1' and redis.call('GET', result_key(id)) or t[9] or ''
end

-- Whether a task with the fields LOOKED_AT has the type, the queue and the reason, and an error with
-- that text in it; '' fits anything.
local function fits(id, t, task_type, queue, reason, text)
  return (task_type == '' or t[2] == task_type)
    and (queue == '' or (t[3] or 'default') == queue)
    and (reason == '' or t[7] == reason)
    and (text == '' or string.find(error_of(id, t), text, 1, true) ~= nil)
end
