-- The broker's clock in milliseconds: clocks of workers and servers never matter.
local now
do
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
