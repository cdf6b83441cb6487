-- The rate-limit windows of many processes, in Redis or Valkey. connection.py puts the constants before this text.
--
-- KEYS: the clock, then four for every account: its hash (limits, levels, sums, flags), the expiry times of its holds
-- (sorted set), what those hold, and the queue of tickets that wait for it (hashes). ARGV[1]: the request, as msgpack.
--
-- Answers {time, unknown, quote, states} as msgpack: which accounts the process has to introduce first (then nothing
-- was done), when the demand fits, and every account's state afterwards. The arithmetic is that of account.py, line by
-- line; times are seconds.

local ask = cmsgpack.unpack(ARGV[1])
local COUNTS = {'calls', 'latest_reply', 'evidence', 'unused', 'blocked', 'tokens', 'requests'}

-- Returns the server's time, made monotonic: after the clock was set back, it goes on from where it was.
local function steady()
  local read = redis.call('TIME')
  local kept = redis.call('HMGET', KEYS[1], 'last', 'behind')
  local last, behind = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
  local now = tonumber(read[1]) + tonumber(read[2]) / 1e6 + behind
  if now < last then now, behind = last, behind + last - now end
  redis.call('HSET', KEYS[1], 'last', now, 'behind', behind)
  return now
end

local now = steady()

local function load(number)
  local base = 4 * number - 2
  local read = redis.call('HGETALL', KEYS[base])
  local field = {}
  for i = 1, #read, 2 do field[read[i]] = read[i + 1] end
  local account = {
    key = KEYS[base], expiries = KEYS[base + 1], parts = KEYS[base + 2], queue = KEYS[base + 3],
    life = field.life, known = field.known == '1', gives_back = field.gives_back == '1', windows = {},
  }
  for _, name in ipairs(COUNTS) do account[name] = tonumber(field[name] or 0) end
  local gone = math.max(0, now - tonumber(field.at or now))
  for _, name in ipairs(NAMES) do
    local limit = tonumber(field[name .. ':limit'] or 0)
    if limit > 0 then
      local rate = limit / SECONDS[name]
      account.windows[name] = {
        limit = limit, rate = rate, level = math.max(0, tonumber(field[name .. ':level']) - gone * rate),
        taken = tonumber(field[name .. ':taken']), corrected = tonumber(field[name .. ':corrected']),
      }
    end
  end
  return account
end

local function save(account)
  local fields = {
    'life', account.life, 'at', now, 'known', account.known and 1 or 0, 'gives_back', account.gives_back and 1 or 0,
  }
  local function add(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
  for _, name in ipairs(COUNTS) do add(name, account[name]) end
  for _, name in ipairs(NAMES) do
    local window = account.windows[name]
    if window then
      for _, what in ipairs({'limit', 'level', 'taken', 'corrected'}) do add(name .. ':' .. what, window[what]) end
    elseif account.dropped then
      redis.call('HDEL', account.key, name .. ':limit', name .. ':level', name .. ':taken', name .. ':corrected')
    end
  end
  redis.call('HSET', account.key, unpack(fields))
  redis.call('EXPIRE', account.key, ACCOUNT_SECONDS)
end

-- Holds.

local function part(account, id)
  local kept = redis.call('HGET', account.parts, id)
  return unpack(kept and cmsgpack.unpack(kept) or {0, 0})
end

local function keep(account, id, tokens, requests, expires)
  local had_tokens, had_requests = part(account, id)
  account.tokens = account.tokens + tokens - had_tokens
  account.requests = account.requests + requests - had_requests
  if tokens <= 0 and requests <= 0 then
    redis.call('HDEL', account.parts, id)
    redis.call('ZREM', account.expiries, id)
    return
  end
  redis.call('HSET', account.parts, id, cmsgpack.pack({tokens, requests}))
  if expires then redis.call('ZADD', account.expiries, expires, id) end
  redis.call('EXPIRE', account.parts, ACCOUNT_SECONDS)
  redis.call('EXPIRE', account.expiries, ACCOUNT_SECONDS)
end

local function purge(account)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', account.expiries, '-inf', now)) do keep(account, id, 0, 0) end
end

-- The queue. A place is {priority, since, expires, tokens, requests}.

local function rank(place)
  return place[1] == BATCH and now - place[2] >= PATIENCE and INTERACTIVE or place[1]
end

-- Returns the tokens and requests of the tickets that go before the request's, and that ticket's own place.
local function ahead(account)
  local found, mine, others = redis.call('HGETALL', account.queue), {ask.priority, now - ask.age}, {}
  for i = 1, #found, 2 do
    local place = cmsgpack.unpack(found[i + 1])
    if found[i] == ask.ticket then
      mine[2] = place[2]
    elseif place[3] <= now then
      redis.call('HDEL', account.queue, found[i])
    else
      place.id = found[i]
      others[#others + 1] = place
    end
  end
  local tokens, requests, my_rank = 0, 0, rank(mine)
  for _, place in ipairs(others) do
    local its = rank(place)
    local before = its < my_rank
    if its == my_rank then before = place[2] < mine[2] or (place[2] == mine[2] and place.id < ask.ticket) end
    if before then tokens, requests = tokens + place[4], requests + place[5] end
  end
  return tokens, requests, mine
end

local function enqueue(account, mine, tokens, requests)
  redis.call('HSET', account.queue, ask.ticket, cmsgpack.pack({mine[1], mine[2], now + TICKET_SECONDS, tokens, requests}))
  redis.call('EXPIRE', account.queue, ACCOUNT_SECONDS)
end

local function leave(account) redis.call('HDEL', account.queue, ask.ticket) end

-- Windows.

-- Returns {wait, the account's number, dimension, limit, requested}.
local function quote(account, number, tokens, requests, before)
  local worst = {0, number, '', 0, 0}
  if now < account.blocked then
    worst = {math.min(account.blocked - now, LONGEST_BLOCK), number, 'blocked', 0, 0}
  end
  for _, name in ipairs(NAMES) do
    local window = account.windows[name]
    if window then
      local amount = IS_TOKENS[name] and tokens or requests
      if amount > window.limit then return {math.huge, number, name, window.limit, amount} end
      local level = window.level + (IS_TOKENS[name] and before.tokens or before.requests)
      local margin = window.rate * SLACK + (IS_TOKENS[name] and 1 or 0)
      local over = level + amount + margin - window.limit
      if over > 0 and level > 0 then
        local wait = math.min(over, level + margin) / window.rate
        if wait > worst[1] then worst = {wait, number, name, window.limit, amount} end
      end
    end
  end
  return worst
end

local function rescale(account, name, limit)
  local window = account.windows[name]
  if window then
    window.limit, window.rate = limit, limit / SECONDS[name]
  else
    account.windows[name] = {limit = limit, rate = limit / SECONDS[name], level = 0, taken = 0, corrected = 0}
  end
end

-- Keeps windows for `limits` and no others; those that are there already keep their level.
local function adopt(account, limits)
  for _, name in ipairs(NAMES) do
    if limits[name] then
      rescale(account, name, limits[name])
    elseif account.windows[name] then
      account.windows[name] = nil
      account.dropped = true
    end
  end
end

-- Takes back units that the provider never counted, also for the replies of calls sent since.
local function uncount(account, name, amount)
  local window = account.windows[name]
  if window then
    local before = window.level
    window.level = math.max(0, before - amount)
    window.corrected = window.corrected + window.level - before
  end
end

local function give_back(account, amount)
  for name in pairs(IS_TOKENS) do
    local window = account.windows[name]
    if window then
      local before = window.level
      window.level = math.max(0, before - amount)
      window.taken = window.taken + window.level - before
    end
  end
end

-- A snapshot is {level, taken, corrected}. Returns by how many units the level was estimated too high.
local function correct(window, snapshot, at, level)
  local surplus, since = snapshot[1] + window.corrected - snapshot[3] - level, window.taken - snapshot[2]
  local drained = math.max(0, now - at) * window.rate
  local low, high = math.max(0, level + since - drained), math.max(0, level - drained) + since
  local after = math.min(math.max(window.level - surplus, low), high)
  window.corrected, window.level = window.corrected + after - window.level, after
  return surplus
end

-- The snapshots of a call say nothing about windows of another life than the one in which it was counted.
local function check_life(account)
  ask.foreign = ask.life ~= '' and ask.life ~= account.life
  if ask.foreign then ask.snapshots, ask.unused = {}, nil end
end

-- Learns whether the provider gives back tokens that a call reserved and did not use.
local function learn_give_back(account, surplus, limit)
  if ask.before >= EVIDENCE_SHARE * limit then
    if account.gives_back then
      account.gives_back = surplus > -ask.before / 2
    else
      account.evidence = surplus >= 0.8 * ask.before and account.evidence + 1 or 0
      account.gives_back = account.evidence >= EVIDENCE_NEEDED
    end
  end
  account.unused = math.max(0, account.unused - ask.before)
end

local function learn(account)
  if #ask.headers == 0 then
    if not account.known then adopt(account, {}) end
    return
  end
  local differs = false
  for _, stated in ipairs(ask.headers) do
    local window = account.windows[stated.name]
    differs = differs or not window or window.limit ~= stated.limit
  end
  if differs and ask.limits then adopt(account, ask.limits) end
  account.known = true
  -- Another process may have learned other limits since this one read them.
  for _, stated in ipairs(ask.headers) do rescale(account, stated.name, stated.limit) end
  if ask.foreign or (next(ask.snapshots) and ask.number < account.latest_reply) then return end
  account.latest_reply = ask.number
  for _, stated in ipairs(ask.headers) do
    local window, snapshot = account.windows[stated.name], ask.snapshots[stated.name]
    -- A snapshot that counts more than the window ever took belongs to a window that was replaced since.
    if stated.left and (not snapshot or snapshot[2] > window.taken) then
      window.level = math.max(0, window.limit - stated.left)
    elseif stated.left then
      local surplus = correct(window, snapshot, ask.at, stated.limit - stated.left)
      if stated.name == 'tpm' then
        learn_give_back(account, surplus, window.limit)
      end
    end
  end
end

local function exceeded(account, window)
  if not window.limit then
    account.blocked = math.max(account.blocked, now + math.min(window.wait, LONGEST_BLOCK))
    return
  end
  rescale(account, window.name, window.limit)
  local kept = account.windows[window.name]
  local level = math.max(kept.level, math.min(window.used or 0, window.limit))
  kept.corrected, kept.level, account.known = kept.corrected + level - kept.level, level, true
end

-- The operations.

local act = {}

-- An account without a record here begins with what the process knows. One with a record is told of each window the
-- level in that process's copy, in case Redis has lost it, and what the process took since without telling Redis.
function act.introduce(accounts)
  for i, account in ipairs(accounts) do
    local own = ask.accounts[i]
    if not account.life then
      redis.call('DEL', account.expiries, account.parts, account.queue)
      account.life, account.known, account.gives_back = own.new_life, own.known, own.gives_back
      account.tokens, account.requests = 0, 0
      adopt(account, own.limits)
    elseif own.known and not account.known then
      adopt(account, own.limits)
      account.known = true
    end
    for name, levels in pairs(own.levels) do
      local window = account.windows[name]
      if window then
        window.level = math.max(window.level, levels[1]) + levels[2]
        window.taken = window.taken + levels[2]
      end
    end
    if own.blocked > 0 then account.blocked = math.max(account.blocked, now + own.blocked) end
    for _, hold in ipairs(own.holds) do keep(account, hold[1], hold[2], hold[3], now + hold[4]) end
  end
end

function act.book(accounts)
  local worst, places = {0, 1, '', 0, 0}, {}
  for i, account in ipairs(accounts) do
    local tokens, requests, mine = ahead(account)
    local before = {tokens = account.tokens + tokens, requests = account.requests + requests}
    local found = quote(account, i, ask.needs[i][1], ask.needs[i][2], before)
    places[i] = mine
    if found[1] > worst[1] then worst = found end
  end
  for i, account in ipairs(accounts) do
    local need = ask.needs[i]
    if worst[1] <= 0 then
      local tokens, requests = part(account, ask.hold)
      keep(account, ask.hold, tokens + need[1], requests + need[2], now + ask.lifetime)
      leave(account)
    elseif worst[1] < math.huge then
      enqueue(account, places[i], need[1], need[2])
    end
  end
  return worst
end

function act.take(accounts)
  local account = accounts[1]
  local held, promised = part(account, ask.hold)
  local used, counted = math.min(held, ask.tokens), math.min(promised, 1)
  local before = {tokens = account.tokens - used, requests = account.requests - counted}
  local mine
  if used < ask.tokens or counted < 1 then
    -- What the hold does not cover has to wait for its turn.
    local tokens, requests, place = ahead(account)
    before.tokens, before.requests, mine = before.tokens + tokens, before.requests + requests, place
  end
  local guessing = not account.known and next(account.windows) ~= nil
  local found = quote(account, 1, ask.tokens, 1, before)
  if guessing and found[1] > 0 then
    if not ask.probe then
      found[1] = math.min(found[1], PROBE_DELAY)
    elseif found[1] == math.huge then
      local blocked = math.min(account.blocked - now, LONGEST_BLOCK)
      found = blocked > 0 and {blocked, 1, 'blocked', 0, 0} or {0, 1, '', 0, 0}
    end
  end
  if found[1] > 0 then
    if found[1] < math.huge and mine then enqueue(account, mine, ask.tokens - used, 1 - counted) end
    return found
  end
  if promised > 0 or held > 0 then keep(account, ask.hold, held - used, promised - counted) end
  leave(account)
  if next(account.windows) then account.calls = account.calls + 1 end
  for name, window in pairs(account.windows) do
    local amount = IS_TOKENS[name] and ask.tokens or 1
    window.level, window.taken = window.level + amount, window.taken + amount
  end
  return found
end

function act.learn(accounts)
  local account = accounts[1]
  check_life(account)
  learn(account)
end

function act.settle(accounts)
  local account = accounts[1]
  check_life(account)
  learn(account)
  if next(ask.snapshots) then
    -- Headers tell the level of the minute, more exactly than the excess does; no header tells that of the day.
    if not ask.minute_told then uncount(account, 'tpm', ask.excess) end
    uncount(account, 'tpd', ask.excess)
  end
  account.unused = account.unused + (ask.unused or 0)
  if account.gives_back then give_back(account, ask.unused or 0) end
  give_back(account, ask.cached)
end

function act.refused(accounts)
  local account = accounts[1]
  check_life(account)
  if next(ask.snapshots) then
    -- Refused attempts were observed to count against the requests per day.
    for name in pairs(IS_TOKENS) do uncount(account, name, ask.tokens) end
    uncount(account, 'rpm', 1)
  end
  if ask.exceeded then exceeded(account, ask.exceeded) end
end

function act.release(accounts) for _, account in ipairs(accounts) do keep(account, ask.hold, 0, 0) end end
function act.leave(accounts) for _, account in ipairs(accounts) do leave(account) end end

local accounts, unknown, states = {}, {}, {}
for i = 1, (#KEYS - 1) / 4 do
  accounts[i] = load(i)
  if ask.op ~= 'introduce' and accounts[i].life ~= ask.lives[i] then unknown[#unknown + 1] = i end
end
local found = {0, 1, '', 0, 0}
if #unknown == 0 then
  for _, account in ipairs(accounts) do purge(account) end
  found = act[ask.op](accounts) or found
  for i, account in ipairs(accounts) do
    save(account)
    local windows = {}
    for _, name in ipairs(NAMES) do
      local window = account.windows[name]
      if window then windows[#windows + 1] = {name, window.limit, window.level, window.taken, window.corrected} end
    end
    states[i] = {
      account.life, account.known, account.gives_back, account.calls, account.latest_reply, account.unused,
      math.max(0, account.blocked - now), account.tokens, account.requests, windows,
    }
  end
end
return cmsgpack.pack({now, unknown, found, states})
