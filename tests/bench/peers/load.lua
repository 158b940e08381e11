-- Closed loop of chat requests, and the gate of every block: a reply that is not whole is named.
-- Arguments: block, tokens a reply, "true" for streams.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  block, tokens, stream = args[1], args[2], args[3] == "true"
  number, replies, events, wrong = 0, 0, 0, ""
  usage = '"completion_tokens":%s*' .. tokens .. '[^%d]'
  ending = '"stream":false}'
  if stream then
    ending = '"stream":true,"stream_options":{"include_usage":true}}'
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer bench"
end

function request()
  number = number + 1
  return wrk.format(nil, nil, nil, string.format(
    '{"model":"bench","messages":[{"role":"user","content":"Request %s-%d: tell me a short story about the sea"}],"max_tokens":%s,"temperature":0,"ignore_eos":true,%s',
    block, number, tokens, ending))
end

local function fault(status, body)
  if status ~= 200 then return "status " .. status end
  if not string.find(body, usage) then return "not " .. tokens .. " tokens" end
  if stream and not string.find(body, "data: [DONE]", 1, true) then return "no [DONE]" end
end

function response(status, headers, body)
  local found = fault(status, body)
  if found then
    wrong = found .. ": " .. string.sub(body, 1, 300)
    wrk.thread:stop()
    return
  end
  replies = replies + 1
  if stream then
    for _ in string.gmatch(body, '"content":%s*"[^"]') do events = events + 1 end
  end
end

local function escaped(text)
  return (string.gsub(text, '[%c"\\]', function(c) return string.format("\\u%04x", string.byte(c)) end))
end

function done(summary, latency, requests)
  local thread, errors = threads[1], summary.errors
  io.write(string.format(
    '{"replies":%d,"events":%d,"wrong":"%s","seconds":%.6f,"errors":%d}\n',
    thread:get("replies"), thread:get("events"), escaped(thread:get("wrong")),
    summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.timeout))
end
