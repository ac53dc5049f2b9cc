-- wrk script: chat completions without a stream.
-- Environment: KEY, MODEL (see run-wrk).
local key = os.getenv("KEY") or "sk-rw-bench-0123456789abcdef0123456789abcdef"
local model = os.getenv("MODEL") or "mock-model"

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. key
wrk.body = string.format(
  '{"model":"%s","messages":[{"role":"user","content":"hello"}],"max_tokens":16}', model)

-- With CHECK set, say which answer was the first that is not 200. Off by default: a response function makes wrk copy
-- every answer into Lua, and wrk counts such answers by itself ("Non-2xx").
if os.getenv("CHECK") then
  local first_bad
  function response(status, headers, body)
    if status ~= 200 and not first_bad then
      first_bad = true
      io.stderr:write("first answer that is not 200: ", status, " ", string.sub(body or "", 1, 200), "\n")
    end
  end
end
