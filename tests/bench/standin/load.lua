-- Asks what the table in the file of the first argument says, in turn, and checks every reply:
-- status 200, the exact number of tokens in its usage, one of the expected texts, and of a stream
-- its [DONE]. Prints one line of JSON in the end. Knows JSON only so far: the texts need no escapes.

local threads = {}
local asks, turn = nil, 0

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  asks = dofile(args[1])
  replies, events, wrong, complaint = 0, 0, 0, ""
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer bench"
end

function request()
  turn = turn % #asks.bodies + 1
  return wrk.format(nil, nil, nil, asks.bodies[turn])
end

local function said(body)
  local pieces = {}
  for piece in body:gmatch('"content":%s?"([^"]*)"') do
    if piece ~= "" then pieces[#pieces + 1] = piece end
  end
  return table.concat(pieces), #pieces
end

local function fault(status, body, text)
  if status ~= 200 then return "status " .. status end
  if asks.stream and not body:find("data: [DONE]\n\n", -14, true) then return "no [DONE]" end
  local count = body:match('"completion_tokens":%s?(%d+)')
  if tonumber(count) ~= asks.tokens then return "completion_tokens " .. tostring(count) end
  if not asks.texts[text] then return "text " .. text end
end

function response(status, _, body)
  local text, pieces = said(body)
  local found = fault(status, body, text)
  replies, events = replies + 1, events + pieces
  if found then
    wrong = wrong + 1
    if complaint == "" then complaint = (found .. " in " .. body):sub(1, 500) end
  end
end

function done(summary)
  local replies, events, wrong, complaint = 0, 0, 0, ""
  for _, thread in ipairs(threads) do
    replies, events = replies + thread:get("replies"), events + thread:get("events")
    wrong = wrong + thread:get("wrong")
    complaint = complaint .. thread:get("complaint")
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('{"replies":%d,"events":%d,"wrong":%d,"broken":%d,"seconds":%f,"complaint":%q}\n',
    replies, events, wrong, broken, summary.duration / 1e6, complaint:gsub("[^%g ]", " ")))
end
