-- ringway turn 1
-- One turn of one gateway: it says what it has of some limits, puts down what it gives up, and takes what others gave up.
-- KEYS[1]: the epoch; what is before it is the prefix of all keys. ARGV: gateway, number of the turn, configured gateways, 1 after a new connection, then 11 for each row.
-- What is known of a row is one hash: for each gateway "leased,held,used,wanted,urgent,time", and "pool", what is on its way.
local prefix, me, turn, configured = KEYS[1]:match('^(.*):epoch$'), ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ALIVE, SETTLE, WANTED, DAY = 10000, 2000, 1000, 86400000
if redis.replicate_commands then redis.replicate_commands() end -- before Redis 7, for TIME
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function text(number) return string.format('%.0f', number) end

-- Since when the data here are known to be whole. After a loss of data, a failover or a new connection every gateway first says
-- again what it has; nothing is found to be missing until then.
local epoch = tonumber(redis.call('GET', KEYS[1]) or '')
if not epoch or ARGV[4] == '1' then
  epoch = math.max(now, (epoch or 0) + 1)
  redis.call('SET', KEYS[1], text(epoch))
end
local is_settled = now - epoch >= SETTLE

local alive, count, last = {}, 1, 0
local gateways = redis.call('HGETALL', prefix .. ':gateways')
for at = 1, #gateways, 2 do
  local seen, number = gateways[at + 1]:match('^(%d+),(%d+)$')
  if gateways[at] == me then
    last = tonumber(number)
  elseif now - seen < ALIVE then
    alive[gateways[at]] = true
    count = count + 1
  elseif now - seen > DAY then
    redis.call('HDEL', prefix .. ':gateways', gateways[at])
  end
end
-- A turn that comes late or twice changes nothing.
if turn <= last then return {epoch, last, count, {}, {}} end
redis.call('HSET', prefix .. ':gateways', me, text(now) .. ',' .. text(turn))
local all = math.max(configured, count)

local results = {}
for at = 5, #ARGV, 11 do
  local name, kind, most, minute = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local leased, held, used = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local given, wanted, urgent = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8]), ARGV[at + 9]
  local lives = tonumber(ARGV[at + 10])
  local key = prefix .. ':row:' .. name
  local share = math.floor(most / all)
  local pool, since = given, nil
  local others_leased, others_held, others_used, wanted_urgent, wanted_short, known = 0, 0, 0, 0, 0, 1
  local flat = redis.call('HGETALL', key)
  for field = 1, #flat, 2 do
    local who, value = flat[field], flat[field + 1]
    if who == 'pool' then
      pool = pool + tonumber(value)
    elseif who == 'since' then
      since = tonumber(value)
    elseif who ~= 'g:' .. me then
      local l, h, u, w, is_urgent, seen = value:match('^(%d+),(%d+),(%d+),(%d+),(%d),(%d+)$')
      if alive[who:sub(3)] then
        known = known + 1
        others_leased, others_held, others_used = others_leased + l, others_held + h, others_used + u
        if now - seen < WANTED then
          if is_urgent == '1' then wanted_urgent = wanted_urgent + w else wanted_short = wanted_short + w end
        end
      elseif now - seen > lives then
        redis.call('HDEL', key, who)
      elseif kind == 'b' then
        -- It has ended: what it had used counts, and nothing else of what it had.
        others_leased, others_used = others_leased + u, others_used + u
      end
    end
  end
  others_leased = others_leased + (count - known) * share
  others_held = others_held + (count - known) * share

  local delta = 0
  if kind == 'b' then
    local total = others_leased + leased + pool
    if total > most then
      local cut = math.min(pool, total - most)
      pool, total = pool - cut, total - cut
      delta = -math.min(held, total - most)
    elseif is_settled then
      pool = pool + most - total
    end
  else
    -- What gateways that are not there would regain.
    if is_settled and since and now > since then
      pool = pool + minute / 60000 * (now - since) * (all - count) / all
    end
    pool = math.min(pool, math.max(0, most - others_held - held))
    since = now
    redis.call('HSET', key, 'since', text(since))
  end
  pool = math.floor(pool)
  if delta == 0 and wanted > 0 then
    delta = math.min(wanted, pool)
    pool = pool - delta
  end
  wanted = math.max(0, wanted - math.max(0, delta))
  redis.call('HSET', key, 'pool', text(pool), 'g:' .. me, table.concat({
    text(math.max(0, leased + delta)), text(math.max(0, held + delta)), text(used), text(wanted), urgent, text(now)}, ','))
  redis.call('PEXPIRE', key, lives)
  if wanted > 0 then redis.call('HSET', prefix .. ':wanted', name, text(now)) end
  for _, number in ipairs({delta, others_held + pool, wanted_urgent, wanted_short, math.max(0, most - others_held - pool), others_used}) do
    results[#results + 1] = number
  end
end

local names = {}
local list = redis.call('HGETALL', prefix .. ':wanted')
for at = 1, #list, 2 do
  if now - list[at + 1] > WANTED then
    redis.call('HDEL', prefix .. ':wanted', list[at])
  elseif #names < 1000 then
    names[#names + 1] = list[at]
  end
end
return {epoch, turn, count, results, names}
