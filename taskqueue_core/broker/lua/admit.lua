-- Say which requests come too fast: a client may use up what a second allows it at once.
-- KEYS[1] <P>meta
-- KEYS[2 ...] <P>rate:<client>, one a request
-- ARGV[1 ...] two a request: its weight (int, >= 1), how much of that is paid already (int)
-- Returns: three per request: ms until it may come again (0: it is admitted and paid), what is left
--   for the client at once, ms until that is all of it again
-- Flags: allow-oom
local n = #KEYS - 1
if n > 100 then return redis.error_reply('ERR at most 100 requests a call') end

-- A client's debt in ms is the time that pays it; fractions are rounded in the client's favour. A
-- request for more than a second allows needs a client without debts, and leaves it with one.
local MS_EACH, MOST_MS, ROUNDING = 1000 / MAX_RATE, 1000, 0.001
local debts, changed, reply = {}, {}, {}
for i = 1, n do
  local key = KEYS[1 + i]
  local weight, paid = ARGV[2 * i - 1] * MS_EACH, ARGV[2 * i] * MS_EACH
  local debt = debts[key] or math.max(tonumber(redis.call('GET', key) or 0) - now, 0)
  local before = math.max(debt - paid, 0)
  local wait = before - math.max(MOST_MS - weight, 0)
  if wait <= ROUNDING then
    wait, debt = 0, before + weight
    changed[key] = true
  end
  debts[key] = debt
  local left = math.floor((MOST_MS - debt) / MS_EACH + ROUNDING)
  reply[3 * i - 2], reply[3 * i - 1] = math.ceil(wait), math.max(left, 0)
  reply[3 * i] = math.ceil(debt)
end

for key in pairs(changed) do
  local paid_at = string.format('%.4f', now + debts[key])
  redis.call('SET', key, paid_at, 'PX', math.ceil(debts[key]))
end
return reply
