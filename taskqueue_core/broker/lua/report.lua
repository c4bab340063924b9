-- Shared main part of complete, fail, release and hold: each reports outcomes of its kind only.
local codes = settle(tonumber(ARGV[3]), 4, ARGV[1], ARGV[2])
write_outcomes()
finish()
return codes
