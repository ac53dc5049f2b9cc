"""ollama-python through the gateway, to a backend that speaks chat completions and to one that speaks Ollama's own API."""

import asyncio
import http.server
import json
import os
import threading

import ollama
import openai
import pytest

import harness
from harness import KEY, MODEL, NARROW_KEY, RETRY_MS, TOKENS

HELLO = [{"role": "user", "content": "Say something"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def note(text: str) -> str:
    """Keeps a note.

    Args:
        text: What to keep.
    """
    return text


def make(gateway, key=KEY, prefix="/ollama", kind=ollama.Client):
    return kind(host=gateway.url + prefix, headers={"Authorization": f"Bearer {key}"}, timeout=20)


@pytest.fixture
def client(gateway):
    return make(gateway)


@pytest.mark.parametrize("prefix", ["/ollama", "", "/ollama/"])
def test_chat_whole(gateway, prefix):
    answer = make(gateway, prefix=prefix).chat(model=MODEL, messages=HELLO)
    assert answer.message.role == "assistant" and answer.message.content
    assert answer.done and answer.done_reason == "stop" and answer.eval_count == TOKENS
    assert answer.prompt_eval_count > 0 and answer.created_at


def test_chat_stream_says_what_the_whole_says(client):
    pieces = list(client.chat(model=MODEL, messages=HELLO, stream=True))
    assert "".join(piece.message.content for piece in pieces)
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == TOKENS


def test_chat_stream_async(gateway):
    async def run():
        client = make(gateway, kind=ollama.AsyncClient)
        return [piece async for piece in await client.chat(model=MODEL, messages=HELLO, stream=True)]

    pieces = asyncio.run(run())
    assert pieces[-1].done and pieces[-1].eval_count == TOKENS


class Ollama(http.server.BaseHTTPRequestHandler):
    """A server that thinks, says something, and calls the first tool it is given."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body))
        calls = [{"function": {"name": tool["function"]["name"], "arguments": {"text": "a \"b\"\n\u2028"}}}
                 for tool in body.get("tools", [])[:1]]
        if any(message["role"] == "tool" for message in body["messages"]):
            calls = []
        last = {"done_reason": "stop", "done": True, "prompt_eval_count": 9, "eval_count": 4, "total_duration": 5}

        def line(message, more):
            return json.dumps({"model": body["model"], "created_at": "2026-11-30T00:00:00.1Z",
                               "message": {"role": "assistant", **message}, **more}).encode() + b"\n"

        if body.get("stream", True):
            lines = [line({"content": "", "thinking": "hm"}, {"done": False}), line({"content": "Hel"}, {"done": False}),
                     line({"content": "lo"}, {"done": False})]
            lines += [line({"content": "", "tool_calls": calls}, {"done": False})] if calls else []
            lines += [line({"content": ""}, last)]
            kind = "application/x-ndjson"
        else:
            whole = {"content": "Hello", "thinking": "hm"} | ({"tool_calls": calls} if calls else {})
            lines, kind = [line(whole, last)], "application/json; charset=utf-8"
        payload = b"".join(lines)
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A gateway before an Ollama server, whose model is `home`: (gateway, server)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ollama)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gateway = harness.Gateway(tmp_path_factory.mktemp("ollama"), lambda port, admin: f"""
listen = "127.0.0.1:{port}"
driver = "{os.environ.get("RINGWAY_TEST_DRIVER", "auto")}"
[admin]
listen = "127.0.0.1:{admin}"
[key.main]
sha256 = "{harness.digest(KEY)}"
[backend.home]
kind = "ollama"
url = "http://127.0.0.1:{server.server_port}"
health = {{ enabled = false }}
[model.home]
backends = ["home"]
""")
    yield gateway, server
    gateway.stop()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_with_an_object_and_its_result_goes_back(home, stream):
    client = make(home[0])

    def ask(messages):
        answer = client.chat(model="home", messages=messages, tools=[note], stream=stream, think=True)
        return list(answer) if stream else [answer]

    pieces = ask(HELLO)
    calls = [call for piece in pieces for call in piece.message.tool_calls or []]
    assert [call.function.name for call in calls] == ["note"]
    assert calls[0].function.arguments == {"text": 'a "b"\n\u2028'}
    assert "".join(piece.message.thinking or "" for piece in pieces) == "hm"
    history = HELLO + [{"role": "assistant", "content": "", "tool_calls": calls},
                       {"role": "tool", "tool_name": "note", "content": "kept"}]
    assert ask(history)[-1].eval_count == 4
    path, body = home[1].asked[-1]
    assert path == "/api/chat" and body["think"] is True and body["messages"][-1]["tool_name"] == "note"


@pytest.mark.parametrize("stream", [False, True])
def test_openai_calls_a_tool_of_a_model_on_ollama(home, stream):
    client = openai.OpenAI(base_url=home[0].base, api_key=KEY, max_retries=0, timeout=20)
    tools = [{"type": "function", "function": {"name": "note", "parameters": {"type": "object", "properties": {}}}}]
    if stream:
        with client.chat.completions.stream(model="home", messages=HELLO, tools=tools) as events:
            for _ in events:
                pass
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(model="home", messages=HELLO, tools=tools)
    message = answer.choices[0].message
    assert message.content == "Hello" and answer.choices[0].finish_reason == "tool_calls"
    call = message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"text": 'a "b"\n\u2028'}
    history = HELLO + [message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
                       {"role": "tool", "tool_call_id": call.id, "content": "kept"}]
    again = client.chat.completions.create(model="home", messages=history, tools=tools)
    assert again.choices[0].message.content == "Hello" and again.usage.total_tokens == 13
    sent = home[1].asked[-1][1]["messages"]
    assert sent[-1] == {"role": "tool", "content": "kept", "tool_name": "note"}
    assert sent[-2]["tool_calls"][0]["function"]["arguments"] == {"text": 'a "b"\n\u2028'}


def test_images_and_options_are_taken(client):
    messages = [{"role": "user", "content": "What is this?", "images": [PIXEL]}]
    answer = client.chat(model=MODEL, messages=messages, options={"num_predict": 3, "num_ctx": 4096, "seed": 7},
                         keep_alive="5m")
    assert answer.done and answer.eval_count == 3 and answer.done_reason == "length"


def test_generate(client):
    whole = client.generate(model=MODEL, prompt="Say something", system="Be brief")
    assert whole.response and whole.done and whole.eval_count == TOKENS
    pieces = list(client.generate(model=MODEL, prompt="Say something", stream=True))
    assert "".join(piece.response for piece in pieces) and pieces[-1].done


def test_embed(client):
    answer = client.embed(model=MODEL, input=["a", "b"])
    assert len(answer.embeddings) == 2 and len(answer.embeddings[0]) > 1
    assert len(client.embeddings(model=MODEL, prompt="a").embedding) == len(answer.embeddings[0])


def test_the_catalogue(client, gateway):
    names = {model.model for model in client.list().models}
    assert MODEL in names
    shown = client.show(MODEL + ":latest")
    assert "tools" in shown.capabilities and shown.details.family
    assert client.ps().models is not None
    assert {model.model for model in make(gateway, NARROW_KEY).list().models} == {MODEL}


def test_errors_have_a_status_and_words(client, gateway):
    for call, status in [
        (lambda: client.chat(model="nobody", messages=HELLO), 404),
        (lambda: client.show("nobody"), 404),
        (lambda: make(gateway, "sk-wrong").chat(model=MODEL, messages=HELLO), 401),
        (lambda: make(gateway, NARROW_KEY).chat(model="fault-cut", messages=HELLO), 403),
        (lambda: client.chat(model="fault-refused", messages=HELLO), 400),
        (lambda: list(client.chat(model="fault-broken", messages=HELLO, stream=True)), 500),
    ]:
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == status or status == 500 <= caught.value.status_code, caught.value
        assert caught.value.error


def test_a_limit_is_told(gateway, limited_key):
    client = make(gateway, limited_key)
    client.chat(model=MODEL, messages=HELLO)
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model=MODEL, messages=HELLO)
    assert caught.value.status_code == 429 and RETRY_MS > 0


@pytest.mark.parametrize("fault", ["cut", "cut-mid-event", "reset", "error-record"])
def test_a_stream_that_breaks_off_raises(client, fault):
    with pytest.raises(ollama.ResponseError):
        for piece in client.chat(model=f"fault-{fault}", messages=HELLO, stream=True):
            assert not piece.done


@pytest.mark.parametrize("quirk", ["no-done", "usage-in-finish", "ignore-stream", "crlf-events", "keepalive-comments",
                                   "split-writes"])
def test_habits_of_servers_do_not_matter(client, quirk):
    pieces = list(client.chat(model=f"quirk-{quirk}", messages=HELLO, stream=True))
    assert pieces[-1].done and "".join(piece.message.content for piece in pieces)
