-- Tokens that a caller's answers have used, by their `usage`; over the limit the next call is 429.
--
-- An answer is read while it passes and never held back. The counters are those of Kong's own
-- rate-limiting (in the pod's memory, or in Redis), under names of their own. What is in flight is
-- not cut short: a call that goes over the limit ends, and the minute's next one is refused.

local policies = require "kong.plugins.rate-limiting.policies"

local kong, ngx = kong, ngx
local find, match, sub = string.find, string.match, string.sub

-- Longer than `"total_tokens": 2147483647,` with some blanks.
local KEPT = 96

-- After key-auth (1250), acl (950) and rate-limiting (910).
local Tokens = { PRIORITY = 905, VERSION = "1.0.0" }

local function caller()
  local consumer = kong.client.get_consumer()
  return consumer and "tokens:" .. consumer.id
end

-- The last total of a text. Inside a JSON string the quotes would have backslashes before them.
local function last_total(text)
  local total, from = nil, 1
  while true do
    local _, stop, found = find(text, '"total_tokens"%s*:%s*(%d+)[^%d]', from)
    if not stop then
      return total
    end
    total, from = tonumber(found), stop
  end
end

function Tokens:access(conf)
  local own = kong.ctx.plugin
  own.identifier, own.now = caller(), ngx.time() * 1000
  if not own.identifier then
    return
  end
  -- A compressed answer could not be read.
  kong.service.request.clear_header("Accept-Encoding")
  local used, err = policies[conf.policy].usage(conf, own.identifier, "minute", own.now)
  if err then
    kong.log.err("tokens cannot be counted, so the call passes: ", err)
    return
  end
  own.remaining = conf.minute - (used or 0)
  if own.remaining <= 0 then
    own.refused = true
    return kong.response.exit(429, { message = "token limit exceeded" }, {
      ["Retry-After"] = 60 - ngx.time() % 60,
      ["X-RateLimit-Limit-Tokens-Minute"] = conf.minute,
      ["X-RateLimit-Remaining-Tokens-Minute"] = 0,
    })
  end
end

function Tokens:header_filter(conf)
  local own = kong.ctx.plugin
  if own.refused or not own.remaining then
    return
  end
  local kind = kong.response.get_header("Content-Type") or ""
  own.stream = find(kind, "text/event-stream", 1, true) ~= nil
  own.read = own.stream or find(kind, "json", 1, true) ~= nil
  kong.response.set_header("X-RateLimit-Limit-Tokens-Minute", conf.minute)
  kong.response.set_header("X-RateLimit-Remaining-Tokens-Minute", own.remaining)
end

function Tokens:body_filter(_)
  local own = kong.ctx.plugin
  local chunk = ngx.arg[1]
  if not own.read or not chunk or chunk == "" then
    return
  end
  local text = (own.kept or "") .. chunk
  own.total = last_total(text) or own.total
  own.kept = sub(text, -KEPT)
  if own.stream then
    -- Each event ends with an empty line; one may be cut between two chunks.
    local events, from = own.events or 0, 1
    if own.newline and sub(chunk, 1, 1) == "\n" then
      events, from = events + 1, 2
    end
    while true do
      local _, stop = find(chunk, "\n\n", from, true)
      if not stop then
        break
      end
      events, from = events + 1, stop + 1
    end
    own.newline = from <= #chunk and match(chunk, "\n$") ~= nil
    own.events = events
  end
end

function Tokens:log(conf)
  local own = kong.ctx.plugin
  -- A stream whose caller did not ask for its usage: each event but the last is a token or more.
  local used = own.total or (own.events and own.events - 1) or 0
  if own.refused or not own.identifier or used <= 0 or kong.response.get_status() >= 400 then
    return
  end
  local _, err = policies[conf.policy].increment(conf, { minute = conf.minute }, own.identifier,
                                                 own.now, used)
  if err then
    kong.log.err("tokens could not be counted: ", err)
  end
end

return Tokens
