-- wrk -s load.lua URL -- TOKENS ORDER METHOD BODY, where TOKENS is a file with one token a line or "-", ORDER is one, any or
-- next (each once, beginning after the first AFTER ones of the environment), and BODY is a number of bytes. The environment may
-- have COOKIE, and CLOSE=1 for a new connection each time.
local requests, any, following = {}, false, nil

local function fields(token)
  local h = { ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) bench", ["Accept"] = "*/*", ["Accept-Encoding"] = "gzip, deflate, br", ["Host"] = wrk.headers["Host"] }
  if os.getenv("CLOSE") then h["Connection"] = "close" end
  if os.getenv("COOKIE") then h["Cookie"] = os.getenv("COOKIE") end
  if token then h["Authorization"] = "Bearer " .. token end
  return h
end

function init(args)
  local body = nil
  if tonumber(args[4] or "0") > 0 then body = string.rep("b", tonumber(args[4])) end
  any = args[2] == "any"
  if args[2] == "next" then following = tonumber(os.getenv("AFTER") or "0") end
  math.randomseed(os.time())
  if args[1] == "-" then
    requests[1] = wrk.format(args[3], nil, fields(nil), body)
    return
  end
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format(args[3], nil, fields(line), body)
    if not any and not following then break end
  end
end

function request()
  if any then return requests[math.random(#requests)] end
  if following then
    following = following + 1
    return requests[math.min(following, #requests)]
  end
  return requests[1]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format('\n@{"requests":%d,"bad":%d,"broken":%d,"p50":%d,"p99":%d,"p999":%d}\n', summary.requests, e.status,
    e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
