"""LangChain's ChatOpenAI through the gateway."""

import langchain_openai
import openai
import pytest

from harness import KEY, MODEL, TOKENS


def make(gateway, **options):
    return langchain_openai.ChatOpenAI(
        base_url=gateway.base, api_key=KEY, model=options.pop("model", MODEL), max_retries=0, timeout=20, **options)


def note(text: str) -> str:
    """Keeps a note."""
    return text


def test_invoke(gateway):
    message = make(gateway).invoke("Say something")
    assert message.content and message.usage_metadata["output_tokens"] == TOKENS


def test_stream_adds_up_and_has_no_usage_unless_asked(gateway):
    total = None
    for chunk in make(gateway, stream_usage=False).stream("Say something"):
        total = chunk if total is None else total + chunk
    assert total.content and total.usage_metadata is None
    assert total.response_metadata["finish_reason"] == "stop"


def test_stream_usage(gateway):
    total = None
    for chunk in make(gateway, stream_usage=True).stream("Say something"):
        total = chunk if total is None else total + chunk
    assert total.content and total.usage_metadata["output_tokens"] == TOKENS


def test_streamed_tool_call(gateway):
    total = None
    for chunk in make(gateway).bind_tools([note], tool_choice="any").stream("Say something"):
        total = chunk if total is None else total + chunk
    assert total.tool_calls[0]["name"] == "note" and total.tool_calls[0]["args"]["text"]


def test_errors_keep_their_class(gateway):
    with pytest.raises(openai.NotFoundError):
        make(gateway, model="no-such-model").invoke("x")
    with pytest.raises(openai.APIError):
        list(make(gateway, model="fault-cut").stream("x"))


def test_embeddings(gateway):
    embeddings = langchain_openai.OpenAIEmbeddings(
        base_url=gateway.base, api_key=KEY, model=MODEL, check_embedding_ctx_length=False)
    assert len(embeddings.embed_query("one")) == 384
