"""openai-python through the gateway: what its users see."""

import asyncio
import json
import time

import httpx2
import openai
import pytest

import harness
from harness import KEY, MODEL, NARROW_KEY, RETRY_MS, SMALL_KEY, TOKENS, until

HELLO = [{"role": "user", "content": "Say something about rings. Grüße, 你好, 🦀"}]
TOOLS = [{"type": "function", "function": {
    "name": "note", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}}]


def make(gateway, key=KEY, **options):
    return openai.OpenAI(base_url=gateway.base, api_key=key, **{"max_retries": 0, "timeout": 20, **options})


@pytest.fixture
def client(gateway):
    with make(gateway) as client:
        yield client


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# Answers


def test_chat_whole(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.object == "chat.completion" and answer.model == MODEL
    assert len(answer.choices[0].message.content.split()) >= TOKENS / 2
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == TOKENS
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + TOKENS


def test_chat_stream(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks).strip()
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.choices for chunk in chunks), "usage was not asked for, so every chunk has a choice"
    assert not any(chunk.usage for chunk in chunks)


def test_stream_and_whole_say_the_same_for_a_seed(client):
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, seed=7)
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, seed=7, stream=True))
    assert text_of(chunks) == whole.choices[0].message.content


def test_usage_comes_once_and_last_when_asked_for(client):
    chunks = list(client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == TOKENS


def test_usage_is_not_sent_when_refused(client):
    chunks = list(client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": False}))
    assert all(chunk.choices for chunk in chunks) and not any(chunk.usage for chunk in chunks)


def test_continuous_usage_reaches_a_client_that_asks(client):
    chunks = list(client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True,
        stream_options={"include_usage": True}, extra_body={"stream_options": {
            "include_usage": True, "continuous_usage_stats": True}}))
    assert all(chunk.usage for chunk in chunks)


def test_tool_call_whole(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, tools=TOOLS, tool_choice="required")
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "note" and json.loads(call.function.arguments)["text"]
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tool_call_deltas(client):
    with client.chat.completions.stream(
            model=MODEL, messages=HELLO, tools=TOOLS, tool_choice="required",
            stream_options={"include_usage": True}) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "note" and call.id.startswith("call_")
    assert json.loads(call.function.arguments)["text"]
    assert final.usage.completion_tokens == TOKENS


def test_vendor_members_reach_the_backend(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=31, extra_body={"ignore_eos": True, "chat_template_kwargs": {"a": 1}})
    assert answer.usage.completion_tokens == 31 and answer.choices[0].finish_reason == "length"


def test_alias_and_slashed_name(client):
    assert client.chat.completions.create(model="demo-latest", messages=HELLO).choices
    assert client.chat.completions.create(model="org/demo", messages=HELLO).choices


def test_long_answer_and_long_prompt(client):
    prompt = [{"role": "user", "content": "word " * 40_000}]
    chunks = list(client.chat.completions.create(
        model=MODEL, messages=prompt, stream=True, max_tokens=400, stream_options={"include_usage": True},
        extra_body={"ignore_eos": True}))
    assert chunks[-1].usage.completion_tokens == 400
    assert chunks[-1].usage.prompt_tokens >= 50_000
    assert sum(1 for chunk in chunks if chunk.choices and chunk.choices[0].delta.content) == 400


def test_completions_whole(client):
    answer = client.completions.create(model=MODEL, prompt="Once")
    assert answer.object == "text_completion" and answer.choices[0].text
    assert answer.usage.completion_tokens == TOKENS


@pytest.mark.parametrize("prompt", ["Once", ["Once"], [1, 2, 3], [[1, 2, 3]]], ids=str)
def test_completions_stream(client, prompt):
    chunks = list(client.completions.create(
        model=MODEL, prompt=prompt, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == TOKENS


def test_embeddings_are_the_same_in_both_encodings(client):
    packed = client.embeddings.create(model=MODEL, input=["one", "two"])
    plain = client.embeddings.create(model=MODEL, input=["one", "two"], encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    assert len(packed.data[0].embedding) == 384
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0


def test_responses_whole(client):
    answer = client.responses.create(model=MODEL, input="Say something")
    assert answer.output_text and answer.status == "completed"
    assert answer.usage.output_tokens == TOKENS


def test_responses_stream(client):
    with client.responses.stream(model=MODEL, input="Say something") as stream:
        events = [event.type for event in stream]
        final = stream.get_final_response()
    assert events[0] == "response.created" and events[-1] == "response.completed"
    assert events.count("response.output_text.delta") == TOKENS
    assert final.output_text and final.usage.output_tokens == TOKENS


def test_async_streams_at_once(gateway):
    async def one(client, number):
        stream = await client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, max_tokens=20 + number,
            stream_options={"include_usage": True}, extra_body={"ignore_eos": True})
        chunks = [chunk async for chunk in stream]
        return chunks[-1].usage.completion_tokens, text_of(chunks)

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=gateway.base, api_key=KEY, max_retries=0, timeout=20) as client:
            return await asyncio.gather(*(one(client, number) for number in range(32)))

    answers = asyncio.run(all_of_them())
    assert [tokens for tokens, _ in answers] == [20 + number for number in range(32)]
    assert all(text.strip() for _, text in answers)


def test_one_connection_serves_many_calls(client, gateway):
    """Not streams: the SDK leaves a stream at `[DONE]`, before the end of the body, and drops its connection."""
    before = gateway.total("ringway_connections_accepted_total")
    for _ in range(10):
        client.chat.completions.create(model=MODEL, messages=HELLO)
        client.embeddings.create(model=MODEL, input="one")
    assert gateway.total("ringway_connections_accepted_total") - before == 1


# Models


def test_models_list_and_retrieve(client):
    names = [model.id for model in client.models.list()]
    assert MODEL in names and "org/demo" in names
    assert client.models.retrieve(MODEL).id == MODEL
    assert client.models.retrieve("org/demo").id == "org/demo"
    assert client.models.retrieve(MODEL).object == "model"


def test_models_of_a_narrow_key(gateway):
    with make(gateway, NARROW_KEY) as client:
        assert [model.id for model in client.models.list()] == [MODEL]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("org/demo")


# Headers


def test_request_id_is_on_every_answer(client):
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert answer.headers["x-request-id"] == answer.parse()._request_id
    other = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert other._request_id and other._request_id != answer.headers["x-request-id"]
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="nope", messages=HELLO)
    assert error.value.request_id == error.value.response.headers["x-request-id"]


def test_stream_headers(client):
    with client.chat.completions.with_streaming_response.create(
            model=MODEL, messages=HELLO, stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"]
        assert "content-length" not in answer.headers and "content-encoding" not in answer.headers
        body = b"".join(answer.iter_bytes())
    assert body.endswith(b"data: [DONE]\n\n")
    assert body.count(b"[DONE]") == 1


# Errors


def test_wrong_key(gateway):
    for key in ["sk-wrong", KEY + "x", KEY[:-1]]:
        with make(gateway, key) as client:
            with pytest.raises(openai.AuthenticationError) as error:
                client.chat.completions.create(model=MODEL, messages=HELLO)
            assert error.value.code == "invalid_api_key" and error.value.type == "invalid_request_error"
            with pytest.raises(openai.AuthenticationError):
                client.models.list()


def test_no_key(gateway):
    status, headers, body = harness.get(gateway.address, "/v1/models")
    assert status == 401 and json.loads(body)["error"]["code"] == "invalid_api_key"
    assert headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(client, stream):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="no-such-model", messages=HELLO, stream=stream)
    assert error.value.code == "model_not_found"
    assert "no-such-model" in error.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_forbidden_model(gateway):
    with make(gateway, NARROW_KEY) as client:
        assert client.chat.completions.create(model=MODEL, messages=HELLO).choices
        with pytest.raises(openai.PermissionDeniedError) as error:
            client.chat.completions.create(model="org/demo", messages=HELLO)
        assert error.value.code == "model_not_allowed"


def test_unknown_path(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.post("/no/such/path", body={}, cast_to=object)
    assert error.value.code == "unknown_url"


def test_malformed_body_leaves_the_connection_usable(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.post("/chat/completions", content=b"{", cast_to=object,
                    options={"headers": {"content-type": "application/json"}})
    assert error.value.type == "invalid_request_error"
    assert client.chat.completions.create(model=MODEL, messages=HELLO).choices


def test_backends_refusal_is_passed_on(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=MODEL, messages=None)
    assert "messages" in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="fault-refused", messages=HELLO)
    assert "simulated fault" in error.value.message
    assert error.value.code == "400"


def counting(requests):
    """An HTTP client that counts what the SDK sends."""
    return httpx2.Client(event_hooks={"request": [lambda request: requests.append(time.monotonic())]})


def test_rate_limit(gateway, limited_key):
    with make(gateway, limited_key) as client:
        client.chat.completions.create(model=MODEL, messages=HELLO)
        with pytest.raises(openai.RateLimitError) as error:
            client.chat.completions.create(model=MODEL, messages=HELLO)
    assert error.value.code == "rate_limit_exceeded" and error.value.type == "requests"
    headers = error.value.response.headers
    assert 0 < float(headers["retry-after-ms"]) <= RETRY_MS
    assert float(headers["retry-after"]) * 1000 >= float(headers["retry-after-ms"])


def test_sdk_waits_as_long_as_it_is_told(gateway, limited_key):
    requests = []
    with make(gateway, limited_key, max_retries=1, http_client=counting(requests)) as client:
        client.chat.completions.create(model=MODEL, messages=HELLO)
        # One retry suffices only if it comes after the advice; the SDK's own first wait is at most 0.5 s.
        assert client.chat.completions.create(model=MODEL, messages=HELLO).choices
    assert len(requests) == 3
    assert 0.6 < requests[2] - requests[1] < RETRY_MS / 1000 + 1


def test_request_that_can_never_fit(gateway):
    requests = []
    with make(gateway, SMALL_KEY, max_retries=2, http_client=counting(requests)) as client:
        # Longer than the whole limit of the key; a cap that is larger is no cost.
        long = [{"role": "user", "content": "word " * 1000}]
        with pytest.raises(openai.RateLimitError) as error:
            client.chat.completions.create(model=MODEL, messages=long, max_tokens=8)
    assert error.value.code == "request_exceeds_limit"
    assert len(requests) == 1, "waiting cannot help, so the SDK is told not to retry"


def test_large_cap_is_no_cost(gateway):
    with make(gateway, SMALL_KEY, max_retries=5) as client:
        response = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1000)
    assert response.choices[0].message.content


def test_busy_backend(client):
    with pytest.raises(openai.RateLimitError) as error:
        client.chat.completions.create(model="fault-busy", messages=HELLO)
    assert 0 < float(error.value.response.headers["retry-after"]) <= 7


@pytest.mark.parametrize("model", ["fault-broken", "fault-html", "fault-overloaded", "fault-error-first"])
@pytest.mark.parametrize("stream", [False, True])
def test_failing_backend(client, model, stream):
    with pytest.raises((openai.InternalServerError, openai.RateLimitError)) as error:
        client.chat.completions.create(model=model, messages=HELLO, stream=stream)
    assert "<html" not in str(error.value)
    assert error.value.response.headers["content-type"].startswith("application/json")
    assert error.value.request_id


def test_backends_doubt_about_our_credential_is_not_the_clients(client):
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model="fault-denied", messages=HELLO)
    assert error.value.code == "backend_auth_failed"


# Broken and abandoned streams

# An error record in the stream, or where that is impossible a connection that breaks off.
BROKEN = (openai.APIError, httpx2.HTTPError)


@pytest.mark.parametrize("model", ["fault-cut", "fault-reset", "fault-cut-mid-event", "fault-error-record"])
def test_cut_stream_raises(client, model):
    chunks = []
    with pytest.raises(BROKEN):
        for chunk in client.chat.completions.create(model=model, messages=HELLO, stream=True):
            chunks.append(chunk)
    assert text_of(chunks).strip(), "what came before the cut was passed on"
    assert not any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


@pytest.mark.parametrize("model", ["fault-cut", "fault-reset"])
def test_cut_responses_stream_raises(client, model):
    with pytest.raises((*BROKEN, RuntimeError)):
        with client.responses.stream(model=model, input="x") as stream:
            for _ in stream:
                pass
            stream.get_final_response()


def test_stream_cut_before_its_first_event(client):
    with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
        list(client.chat.completions.create(model="fault-cut-at-once", messages=HELLO, stream=True))


def test_cut_whole_answer_raises(client):
    with pytest.raises((openai.APIError, httpx2.HTTPError)):
        client.chat.completions.create(model="fault-cut", messages=HELLO)


def test_answer_without_usage_passes(client):
    answer = client.chat.completions.create(model="fault-no-usage", messages=HELLO)
    assert answer.choices and answer.usage is None
    assert text_of(client.chat.completions.create(model="fault-no-usage", messages=HELLO, stream=True))


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_stops_the_backend(gateway, simulator, stream):
    before = simulator.state()["aborted"]
    with make(gateway, timeout=httpx2.Timeout(20, read=0.2)) as client:
        long = {"model": MODEL, "messages": HELLO, "max_tokens": 100_000, "extra_body": {"ignore_eos": True}}
        if stream:
            answer = client.chat.completions.create(**long, stream=True)
            for _, _ in zip(answer, range(5)):
                pass
            answer.close()
        else:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(**long)
    until(lambda: simulator.state()["aborted"] == before + 1, 5, "the backend's abort")
    until(lambda: simulator.state()["running"] == 0, 5, "an idle backend")


# The gateway's own books


def test_abandoned_streams_are_counted_by_what_passed(gateway, client):
    def counted():
        return gateway.total("ringway_model_tokens_total", model="org/demo", type="output")

    before = counted()
    stream = client.chat.completions.create(
        model="org/demo", messages=HELLO, stream=True, max_tokens=100_000, extra_body={"ignore_eos": True})
    for _, _ in zip(range(20), stream):
        pass
    stream.close()
    until(lambda: counted() - before >= 18, 5, "the tokens that were sent in the metrics")
    assert gateway.total("ringway_model_estimated_total", model="org/demo") >= 1


def test_usage_is_counted(gateway, client):
    """Tokens of streams whose client did not ask for usage are counted too."""
    def counted():
        return gateway.total("ringway_model_tokens_total", model=MODEL, type="output")

    before = counted()
    list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    client.chat.completions.create(model=MODEL, messages=HELLO)
    until(lambda: counted() == before + 2 * TOKENS, 5, "two answers' tokens in the metrics")
