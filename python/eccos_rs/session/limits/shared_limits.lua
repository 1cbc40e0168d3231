#!lua name=eccos_limits_1
-- Shared limits: one call per micro-batch, atomic, all times are the server's. The keys share one hash tag.
--
-- KEYS: 1 meta (hash: epoch, run, grace)        2 replicas (sorted set: session -> deadline in ms)
--       3 published (hash: session -> row)      4 leases (hash: lease -> session|tokens|slot|model)
--       5 load (hash: model -> in flight; "l:" model -> its limits as stated last)
--       6 windows (hash: model|kind|slot -> used; model|kind|u -> sum; model|kind|o -> oldest slot)
--       7 reserved (hash: session -> period|usd of what runs)
--       8 lost (hash: session -> period|usd of what ran when it was killed)
--       9 spend of the period (hash: session -> usd)
-- ARGV: 1 the message as JSON. Returns JSON.

local SLOTS = 240

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The uses of a window now; slots that have left it are removed. `state` caches windows within one call.
local function window(keys, state, model, kind)
  local name = model .. '|' .. kind .. '|'
  local known = state.windows[name]
  if known then return known end
  local got = redis.call('HMGET', keys[6], name .. 'u', name .. 'o', name .. 'n')
  local w = {name = name, used = tonumber(got[1]) or 0, oldest = tonumber(got[2]), slot = state.slot, add = {}}
  -- After a failover the new server's clock may be behind: time stands still, nothing is resurrected.
  if got[3] and tonumber(got[3]) > w.slot then w.slot = tonumber(got[3]) end
  if w.oldest and w.oldest + SLOTS + 1 <= w.slot then
    local names, last = {}, math.min(w.slot - SLOTS - 1, w.oldest + SLOTS + 1)
    for at = w.oldest, last do names[#names + 1] = name .. at end
    for _, held in ipairs(redis.call('HMGET', keys[6], unpack(names))) do
      if held then w.used = w.used - tonumber(held) end
    end
    redis.call('HDEL', keys[6], unpack(names))
    w.oldest = last + 1
    if w.used <= 0 then w.used = 0; w.oldest = w.slot end
    w.dirty = true
  end
  if not w.oldest then w.oldest = w.slot; w.dirty = true end
  state.windows[name] = w
  return w
end

local function use(w, slot, amount)
  if amount == 0 then return end
  w.add[slot] = (w.add[slot] or 0) + amount
  w.used = w.used + amount
  w.dirty = true
end

local function in_flight(keys, state, model)
  local known = state.load[model]
  if not known then
    known = {now = tonumber(redis.call('HGET', keys[5], model)) or 0, change = 0}
    state.load[model] = known
  end
  return known
end

local function run_more(keys, state, model, amount)
  local known = in_flight(keys, state, model)
  known.now = known.now + amount
  known.change = known.change + amount
end

local function split(record)
  return string.match(record, '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
end

local function leave(keys, state, replica)
  local all, gone = redis.call('HGETALL', keys[4]), {}
  for at = 1, #all, 2 do
    local owner, _, _, model = split(all[at + 1])
    if owner == replica then
      run_more(keys, state, model, -1)
      gone[#gone + 1] = all[at]
    end
  end
  for at = 1, #gone, 1000 do
    redis.call('HDEL', keys[4], unpack(gone, at, math.min(at + 999, #gone)))
  end
  redis.call('ZREM', keys[2], replica)
  redis.call('HDEL', keys[3], replica)
  redis.call('HDEL', keys[7], replica)
end

-- Slots of the dead are released; their requests and tokens stay counted, and what ran counts as spent.
local function reap(keys, state)
  for _, replica in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', state.now)) do
    local reserved = redis.call('HGET', keys[7], replica)
    if reserved then redis.call('HSET', keys[8], replica, reserved) end
    leave(keys, state, replica)
  end
end

local function register(keys, state, m, same)
  redis.call('HDEL', keys[8], m.replica)
  local listed, all = {}, redis.call('HGETALL', keys[4])
  for _, held in ipairs(m.held) do listed[held[1]] = held end
  for at = 1, #all, 2 do
    local owner, _, _, model = split(all[at + 1])
    if owner == m.replica then
      if listed[all[at]] then
        listed[all[at]] = nil
      else
        run_more(keys, state, model, -1)
        redis.call('HDEL', keys[4], all[at])
      end
    end
  end
  for id, held in pairs(listed) do
    local model = m.limits[held[2] + 1][1]
    run_more(keys, state, model, 1)
    redis.call('HSET', keys[4], id, m.replica .. '|' .. held[3] .. '|' .. state.slot .. '|' .. model)
  end
  local more = m.unseen
  if not same and m.epoch then more = m.used end
  for at, used in ipairs(more) do
    local model = m.limits[at][1]
    if used[1] > 0 then local w = window(keys, state, model, 'r'); use(w, w.slot, used[1]) end
    if used[2] > 0 then local w = window(keys, state, model, 't'); use(w, w.slot, used[2]) end
  end
end

local function settle(keys, state, id, real, requests)
  local record = redis.call('HGET', keys[4], id)
  if not record then return end
  redis.call('HDEL', keys[4], id)
  local _, tokens, slot, model = split(record)
  tokens, slot = tonumber(tokens), tonumber(slot)
  run_more(keys, state, model, -1)
  local limit = state.limits[model]
  if limit and limit[3] >= 0 and requests ~= 0 then
    local w = window(keys, state, model, 'r')
    if slot >= w.oldest then use(w, slot, requests) end
  end
  if limit and limit[4] >= 0 and real ~= tokens then
    local w = window(keys, state, model, 't')
    -- A use that has left the window is not given back; a surplus counts as used now.
    if slot >= w.oldest then use(w, slot, real - tokens)
    elseif real > tokens then use(w, w.slot, real - tokens) end
  end
end

local function claim(keys, state, m, each, taken)
  local limit = m.limits[each[2] + 1]
  local model, tokens = limit[1], each[3]
  if limit[2] >= 0 and in_flight(keys, state, model).now >= limit[2] then return false end
  local r = limit[3] >= 0 and window(keys, state, model, 'r')
  local t = limit[4] >= 0 and window(keys, state, model, 't')
  if r and r.used + 1 > limit[3] then return false end
  if t and t.used + tokens > limit[4] then return false end
  run_more(keys, state, model, 1)
  if r then use(r, r.slot, 1) end
  if t then use(t, t.slot, tokens) end
  taken[#taken + 1] = each[1]
  taken[#taken + 1] = m.replica .. '|' .. tokens .. '|' .. (t and t.slot or r and r.slot or state.slot) .. '|' .. model
  return true
end

local function write(keys, state)
  for model, known in pairs(state.load) do
    if known.change ~= 0 then
      if known.now < 0 then redis.call('HSET', keys[5], model, 0)
      else redis.call('HINCRBY', keys[5], model, known.change) end
    end
  end
  for name, w in pairs(state.windows) do
    if w.dirty then
      local set = {name .. 'u', math.max(w.used, 0), name .. 'o', w.oldest, name .. 'n', w.slot}
      for slot, amount in pairs(w.add) do
        if amount ~= 0 then redis.call('HINCRBY', keys[6], name .. slot, amount) end
      end
      redis.call('HSET', keys[6], unpack(set))
    end
  end
end

local function publish(keys, m, reply)
  local said = m.publication
  redis.call('HSET', keys[3], m.replica, said.row)
  reply.others = {}
  local all = redis.call('HGETALL', keys[3])
  for at = 1, #all, 2 do
    if all[at] ~= m.replica then reply.others[#reply.others + 1] = all[at + 1] end
  end
  reply.spent = 0
  if said.period == '' then return end
  redis.call('HSET', keys[7], m.replica, said.period .. '|' .. said.reserved)
  redis.call('HSET', keys[9], m.replica, said.spent)
  redis.call('EXPIRE', keys[9], 70 * 86400)
  all = redis.call('HGETALL', keys[9])
  for at = 1, #all, 2 do
    if all[at] ~= m.replica then reply.spent = reply.spent + tonumber(all[at + 1]) end
  end
  all = redis.call('HGETALL', keys[8])
  for at = 1, #all, 2 do
    local period, usd = string.match(all[at + 1], '^(.*)|([^|]*)$')
    if period == said.period then reply.spent = reply.spent + tonumber(usd)
    elseif m.held then redis.call('HDEL', keys[8], all[at]) end
  end
  reply.spent = string.format('%.12g', reply.spent)
end

local function exchange(keys, args)
  local m = cjson.decode(args[1])
  local now = clock()
  local state = {now = now, slot = math.floor(now / (m.span / SLOTS)), windows = {}, load = {}, limits = {}}
  for _, limit in ipairs(m.limits) do state.limits[limit[1]] = limit end
  local meta = redis.call('HMGET', keys[1], 'epoch', 'run', 'grace')
  local epoch, grace = meta[1], tonumber(meta[3]) or 0
  if not epoch then
    epoch = m.fresh
    redis.call('HSET', keys[1], 'epoch', epoch)
    -- The state was lost: nobody is granted anything until all that are alive have said what they hold.
    if m.epoch then grace = now + m.grace; redis.call('HSET', keys[1], 'grace', grace) end
  end
  if m.held and m.restarted ~= '' and m.restarted ~= meta[2] then
    redis.call('HSET', keys[1], 'run', m.restarted)
    if meta[2] then grace = now + m.grace; redis.call('HSET', keys[1], 'grace', grace) end
  end
  reap(keys, state)
  local known = redis.call('ZSCORE', keys[2], m.replica)
  if not m.leaving and not m.held and (not known or m.epoch ~= epoch) then
    write(keys, state)
    return cjson.encode({epoch = epoch, known = false})
  end
  local reply = {epoch = epoch, known = true, granted = {}, uses = {}, differing = ''}
  if m.held then register(keys, state, m, m.epoch == epoch) end
  for _, each in ipairs(m.settled) do settle(keys, state, each[1], each[2], 0) end
  for _, id in ipairs(m.cancelled) do settle(keys, state, id, 0, -1) end
  if m.leaving then
    leave(keys, state, m.replica)
    write(keys, state)
    return cjson.encode(reply)
  end
  redis.call('ZADD', keys[2], now + m.ttl, m.replica)
  local taken = {}
  for at, each in ipairs(m.claims) do
    reply.granted[at] = now >= grace and claim(keys, state, m, each, taken)
  end
  for at = 1, #taken, 1000 do
    redis.call('HSET', keys[4], unpack(taken, at, math.min(at + 999, #taken)))
  end
  for at, limit in ipairs(m.limits) do
    local model = limit[1]
    local counted = limit[2] >= 0 or limit[3] >= 0 or limit[4] >= 0
    reply.uses[at] = {
      counted and math.max(in_flight(keys, state, model).now, 0) or 0,
      limit[3] >= 0 and math.max(window(keys, state, model, 'r').used, 0) or 0,
      limit[4] >= 0 and math.max(window(keys, state, model, 't').used, 0) or 0,
    }
    if m.held then
      local stated = limit[2] .. '|' .. limit[3] .. '|' .. limit[4]
      local before = redis.call('HGET', keys[5], 'l:' .. model)
      if before and before ~= stated then reply.differing = model end
      redis.call('HSET', keys[5], 'l:' .. model, stated)
    end
  end
  write(keys, state)
  reply.replicas = redis.call('ZCARD', keys[2])
  if m.publication then publish(keys, m, reply) end
  return cjson.encode(reply)
end

-- KEYS: 1 the lease, 2 judged leases by time. ARGV: 1 quality, 2 seconds to keep it, 3 its name.
-- Returns the record before, or nothing.
local function judge(keys, args)
  local record = redis.call('HGETALL', keys[1])
  if #record == 0 then return false end
  local at = redis.call('TIME')
  redis.call('HSET', keys[1], 'quality', args[1], 'judged', at[1] .. '.' .. string.format('%06d', at[2]))
  redis.call('EXPIRE', keys[1], args[2])
  redis.call('ZADD', keys[2], string.format('%.0f', at[1] * 1e6 + at[2]), args[3])
  return record
end

redis.register_function('eccos_exchange_1', exchange)
redis.register_function('eccos_judge_1', judge)
