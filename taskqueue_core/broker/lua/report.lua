-- Shared main part of complete, fail, release and hold: each reports outcomes of its kind only.
local reported = tonumber(ARGV[3])
if reported > 100 then return redis.error_reply('ERR at most 100 outcomes a call') end
local codes = settle(reported, 4, ARGV[1], ARGV[2])
write_endings()
finish()
return codes
