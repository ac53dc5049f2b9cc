"""anthropic-python through the gateway, to a backend that speaks /v1/messages itself. Runs with 2.x and with 0.x."""

import json

import anthropic
import pytest

import harness
from harness import KEY, MODEL, NARROW_KEY, RETRY_MS, TOKENS

HELLO = {"max_tokens": 100, "messages": [{"role": "user", "content": "Say something"}]}
TOOLS = [{"name": "note", "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}}}]


def make(gateway, key=KEY, **options):
    return anthropic.Anthropic(base_url=gateway.url, **{"api_key": key, "max_retries": 0, "timeout": 20, **options})


@pytest.fixture
def client(gateway):
    with make(gateway) as client:
        yield client


def broken():
    """What a stream that breaks off may raise; the transport's own errors depend on the SDK's version."""
    kinds = [anthropic.APIError]
    for name in ("httpx", "httpx2"):
        try:
            kinds.append(__import__(name).HTTPError)
        except ImportError:
            pass
    return tuple(kinds)


def test_message_whole(client):
    answer = client.messages.create(model=MODEL, **HELLO)
    assert answer.type == "message" and answer.content[0].text
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens == TOKENS


def test_message_stream(client):
    with client.messages.stream(model=MODEL, **HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text and final.content[0].text == text
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == TOKENS


def test_raw_events_come_in_order(client):
    kinds = [event.type for event in client.messages.create(model=MODEL, stream=True, **HELLO)]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_delta") == TOKENS


def test_tool_use(client):
    with client.messages.stream(model=MODEL, tools=TOOLS, tool_choice={"type": "any"}, **HELLO) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert final.content[0].name == "note" and final.content[0].input["text"]


@pytest.mark.parametrize("header", ["x-api-key", "bearer"])
def test_both_ways_to_present_a_key(gateway, header):
    headers = {"x-api-key": KEY} if header == "x-api-key" else {"authorization": f"Bearer {KEY}"}
    headers |= {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    body = json.dumps({"model": MODEL, **HELLO})
    assert harness.get(gateway.address, "/v1/messages", headers, "POST", body)[0] == 200


def test_auth_token(gateway):
    with make(gateway, api_key=None, auth_token=KEY) as client:
        assert client.messages.create(model=MODEL, **HELLO).content


def test_beta_query_and_headers_pass(client):
    assert client.beta.messages.create(model=MODEL, betas=["one-2026-01-01", "two-2026-01-01"], **HELLO).content


def test_models_in_anthropics_shape(client):
    models = list(client.models.list())
    assert MODEL in [model.id for model in models]
    assert all(model.type == "model" for model in models)
    assert client.models.retrieve(MODEL).id == MODEL


def test_request_id(client):
    answer = client.messages.with_raw_response.create(model=MODEL, **HELLO)
    assert answer.headers["request-id"] == answer.parse()._request_id


def test_wrong_key(gateway):
    with make(gateway, "sk-wrong") as client:
        with pytest.raises(anthropic.AuthenticationError) as error:
            client.messages.create(model=MODEL, **HELLO)
    body = error.value.body
    assert body["type"] == "error" and body["error"]["type"] == "authentication_error"
    assert error.value.request_id


def test_unknown_and_forbidden_model(gateway, client):
    with pytest.raises(anthropic.NotFoundError) as error:
        client.messages.create(model="no-such-model", **HELLO)
    assert error.value.body["error"]["type"] == "not_found_error"
    with make(gateway, NARROW_KEY) as narrow:
        with pytest.raises(anthropic.PermissionDeniedError) as error:
            narrow.messages.create(model="org/demo", **HELLO)
    assert error.value.body["error"]["type"] == "permission_error"


def test_malformed_request(client):
    with pytest.raises(anthropic.BadRequestError) as error:
        client.messages.create(model=5, **HELLO)
    assert error.value.body["error"]["type"] == "invalid_request_error"


def test_rate_limit(gateway, limited_key):
    with make(gateway, limited_key) as client:
        client.messages.create(model=MODEL, **HELLO)
        with pytest.raises(anthropic.RateLimitError) as error:
            client.messages.create(model=MODEL, **HELLO)
    assert error.value.body["error"]["type"] == "rate_limit_error"
    assert 0 < float(error.value.response.headers["retry-after-ms"]) <= RETRY_MS


def test_sdk_waits_as_long_as_it_is_told(gateway, limited_key):
    with make(gateway, limited_key, max_retries=1) as client:
        client.messages.create(model=MODEL, **HELLO)
        # The SDK's own first wait of at most 0.5 s would be too short for its one retry.
        assert client.messages.create(model=MODEL, **HELLO).content


@pytest.mark.parametrize("model", ["fault-broken", "fault-html", "fault-error-first"])
def test_failing_backend(client, model):
    with pytest.raises(anthropic.InternalServerError) as error:
        client.messages.create(model=model, **HELLO)
    if model == "fault-html":  # nothing a client could read, so the gateway speaks; else the backend's own words pass
        assert error.value.body["error"]["type"] == "api_error"


@pytest.mark.parametrize("model", ["fault-cut", "fault-reset", "fault-cut-mid-event", "fault-error-record"])
def test_cut_stream_raises(client, model):
    text = []
    with pytest.raises(broken()):
        with client.messages.stream(model=model, **HELLO) as stream:
            for piece in stream.text_stream:
                text.append(piece)
            stream.get_final_message()
    assert "".join(text), "what came before the cut was passed on"


def test_cut_stream_has_no_invented_end(client):
    kinds = []
    with pytest.raises(broken()):
        for event in client.messages.create(model="fault-cut", stream=True, **HELLO):
            kinds.append(event.type)
    assert "message_stop" not in kinds and "message_delta" not in kinds
