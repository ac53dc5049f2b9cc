"""google-genai through the gateway, to a backend that speaks chat completions. Its reader of streams takes no line but data."""

import base64

import pytest
from google import genai
from google.genai import errors, types

import harness
from harness import KEY, MODEL, NARROW_KEY, TOKENS

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")


def note(text: str) -> str:
    """Keeps a text."""
    return f"kept {text}"


KEPT = []  # a client that nobody refers to closes its connections, calls on their way included


def make(gateway, key=KEY, prefix="", **options):
    options = types.HttpOptions(base_url=gateway.url + prefix, timeout=20_000, **options)
    KEPT.append(genai.Client(api_key=key, http_options=options))
    return KEPT[-1]


@pytest.fixture
def client(gateway):
    return make(gateway)


@pytest.mark.parametrize("prefix", ["", "/gemini"])
@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_content_whole(gateway, prefix, version):
    response = make(gateway, prefix=prefix, api_version=version).models.generate_content(model=MODEL, contents="Hi")
    assert response.text and response.candidates[0].finish_reason == types.FinishReason.STOP
    assert response.usage_metadata.candidates_token_count == TOKENS
    assert response.usage_metadata.total_token_count == TOKENS + response.usage_metadata.prompt_token_count
    assert response.model_version and response.response_id


def test_content_stream(client):
    pieces = list(client.models.generate_content_stream(model=MODEL, contents="Hi"))
    assert "".join(piece.text or "" for piece in pieces)
    assert [piece.candidates[0].finish_reason for piece in pieces][-1] == types.FinishReason.STOP
    assert pieces[-1].usage_metadata.candidates_token_count == TOKENS
    assert len(pieces) > TOKENS / 2


def test_everything_a_request_can_say(client):
    config = types.GenerateContentConfig(
        system_instruction=["Be exact.", "Be kind."], temperature=0.5, top_p=0.9, top_k=40, seed=3, max_output_tokens=5,
        stop_sequences=["END"], candidate_count=1, response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}},
        thinking_config=types.ThinkingConfig(thinking_budget=1024, include_thoughts=True),
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")])
    contents = [types.Part.from_text(text="Look"), types.Part.from_bytes(data=PNG, mime_type="image/png")]
    response = client.models.generate_content(model=MODEL, contents=contents, config=config)
    assert response.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert response.usage_metadata.candidates_token_count == 5


def test_a_call_and_its_result(client):
    tool = types.Tool(function_declarations=[types.FunctionDeclaration(
        name="note", description="Keeps a text",
        parameters=types.Schema(type="OBJECT", properties={"text": types.Schema(type="STRING")}))])
    mode = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY"))
    config = types.GenerateContentConfig(tools=[tool], tool_config=mode)
    first = client.models.generate_content(model=MODEL, contents="Keep it", config=config)
    call = first.function_calls[0]
    assert call.name == "note" and call.id and "text" in call.args
    result = types.Part.from_function_response(name=call.name, response={"result": note(**call.args)})
    history = [types.Content(role="user", parts=[types.Part(text="Keep it")]), first.candidates[0].content,
               types.Content(role="user", parts=[result])]
    assert client.models.generate_content(model=MODEL, contents=history).text
    streamed = [piece.function_calls for piece in client.models.generate_content_stream(
        model=MODEL, contents="Keep it", config=config) if piece.function_calls]
    assert [call.name for calls in streamed for call in calls] == ["note"]


def test_functions_in_python_are_called(client):
    config = types.GenerateContentConfig(
        tools=[note], automatic_function_calling=types.AutomaticFunctionCallingConfig(maximum_remote_calls=2))
    response = client.models.generate_content(model=MODEL, contents="Keep it", config=config)
    assert response.candidates


def test_a_chat_keeps_its_history(client):
    chat = client.chats.create(model=MODEL)
    assert chat.send_message("One").text
    assert "".join(piece.text or "" for piece in chat.send_message_stream("Two"))
    assert len(chat.get_history()) >= 4
    assert chat.send_message("Three").text


def test_count_tokens(client):
    assert client.models.count_tokens(model=MODEL, contents="How many?").total_tokens > 0


def test_embeddings(client):
    response = client.models.embed_content(
        model=MODEL, contents=["a", "b"], config=types.EmbedContentConfig(output_dimensionality=8))
    assert len(response.embeddings) == 2 and all(embedding.values for embedding in response.embeddings)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_models(gateway, version):
    client = make(gateway, api_version=version)
    assert f"models/{MODEL}" in [model.name for model in client.models.list()]
    one = client.models.get(model=MODEL)
    assert one.name == f"models/{MODEL}"


def test_wrong_key_and_unknown_model(gateway, client):
    with pytest.raises(errors.ClientError) as error:
        make(gateway, "sk-wrong").models.generate_content(model=MODEL, contents="Hi")
    assert (error.value.code, error.value.status) == (401, "UNAUTHENTICATED")
    with pytest.raises(errors.ClientError) as error:
        client.models.generate_content(model="no-such-model", contents="Hi")
    assert (error.value.code, error.value.status) == (404, "NOT_FOUND")
    with pytest.raises(errors.ClientError) as error:
        make(gateway, NARROW_KEY).models.generate_content(model="org/demo", contents="Hi")
    assert (error.value.code, error.value.status) == (403, "PERMISSION_DENIED")


def test_a_model_with_a_slash(client):
    assert client.models.generate_content(model="models/org/demo", contents="Hi").text


def test_what_no_backend_has_is_refused_by_name(client):
    search = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())])
    with pytest.raises(errors.ClientError) as error:
        client.models.generate_content(model=MODEL, contents="Hi", config=search)
    assert error.value.code == 400 and "googleSearch" in error.value.message


def test_rate_limit(gateway, limited_key):
    client = make(gateway, limited_key)
    client.models.generate_content(model=MODEL, contents="Hi")
    with pytest.raises(errors.ClientError) as error:
        client.models.generate_content(model=MODEL, contents="Hi")
    assert (error.value.code, error.value.status) == (429, "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize("fault, code", [("busy", 429), ("overloaded", 503), ("broken", 500), ("html", 502),
                                         ("denied", 502), ("refused", 400)])
def test_faults_of_backends(client, fault, code):
    for ask in (client.models.generate_content, client.models.generate_content_stream):
        with pytest.raises(errors.APIError) as error:
            list(ask(model=f"fault-{fault}", contents="Hi"))
        assert error.value.code == code


@pytest.mark.parametrize("fault", ["cut", "cut-mid-event", "reset", "error-record"])
def test_a_stream_that_breaks_off_raises(client, fault):
    said = []
    with pytest.raises(errors.APIError):
        for piece in client.models.generate_content_stream(model=f"fault-{fault}", contents="Hi"):
            said.append(piece)
    assert said and all(piece.candidates[0].finish_reason is None for piece in said)


@pytest.mark.parametrize("quirk", [quirk.split(":")[0] for quirk in harness.QUIRKS])
def test_habits_of_servers(client, quirk):
    model = f"quirk-{quirk}"
    assert client.models.generate_content(model=model, contents="Hi").text
    pieces = list(client.models.generate_content_stream(model=model, contents="Hi"))
    assert pieces[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert "".join(piece.text or "" for piece in pieces)


@pytest.mark.parametrize("stream", [False, True])
def test_in_asyncio(gateway, stream):
    import asyncio

    async def ask():
        client = make(gateway).aio
        if not stream:
            return (await client.models.generate_content(model=MODEL, contents="Hi")).text
        return "".join([piece.text or "" async for piece in await client.models.generate_content_stream(
            model=MODEL, contents="Hi")])

    assert asyncio.run(ask())


@pytest.mark.parametrize("model", ["google", MODEL])
def test_a_signature_comes_back_on_its_call(client, model):
    tool = types.Tool(function_declarations=[types.FunctionDeclaration(name="note")])
    mode = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY"))
    config = types.GenerateContentConfig(tools=[tool], tool_config=mode)
    parts = client.models.generate_content(model=model, contents="Keep it", config=config).candidates[0].content.parts
    assert parts[0].function_call.name == "note"
    assert (parts[0].thought_signature == b"sig") == (model == "google")


def test_openai_python_in_front_of_googles_api(gateway):
    import openai

    client = openai.OpenAI(base_url=gateway.base, api_key=KEY, max_retries=0, timeout=20)
    messages = [{"role": "user", "content": "Hi"}]
    whole = client.chat.completions.create(model="google", messages=messages)
    assert whole.choices[0].message.content and whole.usage.completion_tokens == TOKENS
    with client.chat.completions.stream(
            model="google", messages=messages, stream_options={"include_usage": True}) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content and final.usage.completion_tokens == TOKENS
    tool = {"type": "function", "function": {"name": "note", "parameters": {"type": "object", "properties": {}}}}
    called = client.chat.completions.create(model="google", messages=messages, tools=[tool], tool_choice="required")
    call = called.choices[0].message.tool_calls[0]
    assert called.choices[0].finish_reason == "tool_calls" and call.function.name == "note"
    messages += [called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "kept"}]
    assert client.chat.completions.create(model="google", messages=messages, tools=[tool]).choices[0].message.content
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="google-cut", messages=messages, stream=True))
