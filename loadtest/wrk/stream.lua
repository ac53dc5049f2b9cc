-- wrk script: chat completions as streams. wrk counts a stream as one request, from first byte sent to last received.
-- Environment: KEY, MODEL; PACE_MS and EVENTS are passed on to a simulator in instant mode, if set.
local key = os.getenv("KEY") or "sk-rw-bench-0123456789abcdef0123456789abcdef"
local model = os.getenv("MODEL") or "mock-model"

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. key
if os.getenv("PACE_MS") then wrk.headers["x-sim-pace-ms"] = os.getenv("PACE_MS") end
if os.getenv("EVENTS") then wrk.headers["x-sim-events"] = os.getenv("EVENTS") end
wrk.body = string.format(
  '{"model":"%s","messages":[{"role":"user","content":"hello"}],"max_tokens":64,"stream":true}', model)

-- With CHECK set, look for [DONE] in each stream. Off by default: a response function makes wrk copy every answer into
-- Lua, which makes wrk the bottleneck. `loadtest drive` counts cut streams at full speed.
if os.getenv("CHECK") then
  local cut = 0
  function response(status, headers, body)
    if not (status == 200 and string.find(body, "data: %[DONE%]")) then
      cut = cut + 1
      if cut == 1 then
        io.stderr:write("first stream without [DONE]: status ", status, ", ", #body, " bytes\n")
      end
    end
  end
end
