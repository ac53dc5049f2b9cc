"""Backends with lawful habits of their own: clients see one and the same answer."""

import json

import anthropic
import openai
import pytest

import harness
from harness import KEY, QUIRKS, TOKENS, until

NAMES = [quirk.split(":")[0] for quirk in QUIRKS]
HELLO = [{"role": "user", "content": "Say something"}]


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.base, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(params=NAMES)
def quirk(request):
    return request.param


@pytest.fixture
def model(quirk):
    return f"quirk-{quirk}"


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_whole(client, model):
    answer = client.chat.completions.create(model=model, messages=HELLO)
    assert answer.choices[0].message.content and answer.usage.completion_tokens == TOKENS


def test_stream(client, model, quirk):
    whole = client.chat.completions.create(model=model, messages=HELLO, seed=3)
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True, seed=3))
    assert text_of(chunks) == whole.choices[0].message.content
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert all(chunk.choices for chunk in chunks)


def test_stream_with_usage(client, model, quirk):
    chunks = list(client.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}))
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    if quirk == "ignore-stream-options":
        assert counts in ([], [TOKENS]), "nothing is invented where the backend tells nothing"
    else:
        assert counts and set(counts) == {TOKENS}


def test_stream_ends_with_done(gateway, model):
    body = json.dumps({"model": model, "messages": HELLO, "stream": True})
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    status, _, answer = harness.get(gateway.address, "/v1/chat/completions", headers, "POST", body)
    assert status == 200
    lines = [line for line in answer.replace(b"\r\n", b"\n").split(b"\n") if line]
    assert lines[-1].replace(b" ", b"") == b"data:[DONE]"
    assert answer.count(b"[DONE]") == 1
    assert answer.replace(b"\r\n", b"\n").endswith(b"\n\n")


def test_tools(client, model):
    tools = [{"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}}]
    with client.chat.completions.stream(
            model=model, messages=HELLO, tools=tools, tool_choice="required") as stream:
        final = stream.get_final_completion()
    assert json.loads(final.choices[0].message.tool_calls[0].function.arguments)["text"]


def test_responses(client, model):
    with client.responses.stream(model=model, input="x") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().usage.output_tokens == TOKENS


def test_completions(client, model):
    chunks = list(client.completions.create(model=model, prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks)


def test_embeddings(client, model):
    """The SDK asks for base64 by itself, and would take anything."""
    packed = client.embeddings.with_raw_response.create(model=model, input=["one", "two"], encoding_format="base64")
    assert all(isinstance(item["embedding"], str) for item in json.loads(packed.text)["data"])
    plain = client.embeddings.create(model=model, input=["one", "two"], encoding_format="float")
    assert packed.parse().usage == plain.usage
    unasked = client.embeddings.create(model=model, input=["one", "two"])
    assert unasked.data[1].embedding == pytest.approx(plain.data[1].embedding)


def test_messages(gateway, model):
    with anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=20) as client:
        with client.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
            final = stream.get_final_message()
    assert final.content[0].text and final.stop_reason == "end_turn" and final.usage.output_tokens == TOKENS


def test_models_are_the_gateways_own(client, model):
    assert client.models.retrieve(model).id == model


def test_connection_that_the_backend_closed_is_no_failure(gateway, client):
    """A backend that closes idle connections: the next request goes over a new one."""
    server = next(server for quirk, server in gateway.quirky.items() if quirk.startswith("close-idle"))
    for _ in range(5):
        assert client.chat.completions.create(model="quirk-close-idle", messages=HELLO).choices
        # The connection on which this question is asked is the only one left.
        until(lambda: server.state()["connections_open"] <= 1, 5, "the end of the idle connection")
