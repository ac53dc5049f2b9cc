-- wrk script: chat completions without a stream.
-- Environment: KEY, MODEL (see run-wrk).
local key = os.getenv("KEY") or "sk-rw-bench-0123456789abcdef0123456789abcdef"
local model = os.getenv("MODEL") or "mock-model"

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer " .. key
wrk.body = string.format(
  '{"model":"%s","messages":[{"role":"user","content":"hello"}],"max_tokens":16}', model)

-- An answer that is not 200 is an error that wrk's own count of "Non-2xx" shows; say which one came first.
local first_bad
function response(status, headers, body)
  if status ~= 200 and not first_bad then
    first_bad = true
    io.stderr:write("first answer that is not 200: ", status, " ", string.sub(body or "", 1, 200), "\n")
  end
end
