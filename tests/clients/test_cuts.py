"""A stream cut at any byte raises in the SDKs, in words of the gateway's; one that has ended does not."""

import http.client
import json

import anthropic
import openai
import pytest

import cuts
import harness

CODE = "backend_stream_truncated"
BEFORE = "the backend's response ended before it could be passed on"  # no event yet: a 502
AFTER = "the backend closed the connection in the middle of its response"  # in the stream, behind its last whole event


@pytest.fixture
def between(gateway):
    """A whole answer after every cut, so that no breaker opens."""
    connection = http.client.HTTPConnection(*harness.split(gateway.address), timeout=10)
    body = json.dumps({"model": cuts.MODEL, "stream": True, "messages": [{"role": "user", "content": "whole"}]})

    def ask():
        connection.request("POST", cuts.PATHS["chat"], body, {
            "authorization": f"Bearer {harness.KEY}", "content-type": "application/json"})
        assert b"[DONE]" in connection.getresponse().read()

    yield ask
    connection.close()


def check_all(api, iterate, between):
    """`iterate` a stream of every case: for those that raised, what, and the words that have to be in it."""
    for case in cuts.cases(api):
        events, error = [], None
        try:
            for event in iterate(case.name):
                events.append(event)
        except Exception as raised:  # which one it has to be is checked by `check`
            error = raised
        assert (error is None) == case.has_ended, f"{case}: {len(events)} events, then {error!r}"
        may_lose = case.ending == "reset" and len(events) < case.events
        assert len(events) == case.events or may_lose, f"{case}: {events}"
        if error is not None:
            yield case, error, AFTER if events else BEFORE
        between()


def test_chat_cut_at_any_byte(gateway, between):
    with openai.OpenAI(base_url=gateway.base, api_key=harness.KEY, max_retries=0, timeout=20) as client:
        def iterate(name):
            messages = [{"role": "user", "content": name}]
            yield from client.chat.completions.create(model=cuts.MODEL, messages=messages, stream=True)

        for case, error, words in check_all("chat", iterate, between):
            assert isinstance(error, openai.APIError), f"{case}: {error!r}"
            assert (error.code, error.type) == (CODE, "server_error") and words in error.message, f"{case}: {error!r}"


def test_messages_cut_at_any_byte(gateway, between):
    with anthropic.Anthropic(base_url=gateway.url, api_key=harness.KEY, max_retries=0, timeout=20) as client:
        def iterate(name):
            messages = [{"role": "user", "content": name}]
            yield from client.messages.create(model=cuts.MODEL, max_tokens=9, messages=messages, stream=True)

        for case, error, words in check_all("messages", iterate, between):
            assert isinstance(error, anthropic.APIStatusError), f"{case}: {error!r}"
            told = error.body["error"]
            assert told["type"] == "api_error" and words in told["message"], f"{case}: {error!r}"
