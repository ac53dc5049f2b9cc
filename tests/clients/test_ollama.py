"""ollama-python through the gateway, to a backend that speaks chat completions."""

import asyncio

import ollama
import pytest

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


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_with_an_object_and_its_result_goes_back(client, stream):
    def ask(messages):
        answer = client.chat(model=MODEL, messages=messages, tools=[note], stream=stream)
        return list(answer) if stream else [answer]

    calls = [call for piece in ask(HELLO) for call in piece.message.tool_calls or []]
    if not calls:
        pytest.skip("the simulator calls a tool only where it has to")
    assert calls[0].function.name == "note" and isinstance(calls[0].function.arguments, dict)
    history = HELLO + [{"role": "assistant", "content": "", "tool_calls": calls},
                       {"role": "tool", "tool_name": "note", "content": "kept"}]
    assert ask(history)[-1].done


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
