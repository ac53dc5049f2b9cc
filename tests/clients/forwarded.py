"""Reads with h11 what the gateway sent to the origins of the whole-system tests, and compares with their strict reader.

RINGWAY_TEST_CAPTURE is the folder that tests/support/capture.rs has filled.
"""

import hashlib
import json
import os
import pathlib

import h11
import pytest


def read(raw):
    """The one request in `raw`: method, target, fields, body."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    head, body = connection.next_event(), b""
    assert isinstance(head, h11.Request), f"no request: {head}"
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), f"no end of the message: {event}"
        body += event.data
    assert not event.headers, "trailers"
    rest, _ = connection.trailing_data
    assert not rest, f"more than one message: {rest[:80]!r}"
    assert head.http_version == b"1.1"
    return head.method, head.target, list(head.headers.raw_items()), body


def compare(raw, wanted):
    method, target, fields, body = read(raw)
    latin = lambda text: text.encode("latin-1")
    assert (method, target) == (latin(wanted["method"]), latin(wanted["target"]))
    assert fields == [(latin(name), latin(value)) for name, value in wanted["fields"]]
    assert len(body) == wanted["body_bytes"]
    assert hashlib.sha256(body).hexdigest() == wanted["body_sha256"]


def captured():
    folder = pathlib.Path(os.environ["RINGWAY_TEST_CAPTURE"])
    return [(file.with_suffix(".raw").read_bytes(), json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))]


def test_every_request_is_the_same_under_h11():
    requests = captured()
    assert requests, "nothing was captured"
    for raw, wanted in requests:
        try:
            compare(raw, wanted)
        except (AssertionError, h11.RemoteProtocolError) as error:
            pytest.fail(f"{error}\n{raw[:2000]!r}")
    print(f"{len(requests)} requests")


GOOD = b"POST /v1/chat HTTP/1.1\r\nHost: a\r\nX: 1\r\nContent-Length: 2\r\n\r\n{}"
WANTED = {
    "method": "POST", "target": "/v1/chat", "fields": [["Host", "a"], ["X", "1"], ["Content-Length", "2"]],
    "body_bytes": 2, "body_sha256": hashlib.sha256(b"{}").hexdigest(),
}


def test_a_good_request_is_taken():
    compare(GOOD, WANTED)


@pytest.mark.parametrize("bad", [
    GOOD.replace(b"X: 1", b"X : 1"),
    GOOD.replace(b"X: 1", b"X: 1\r\n folded"),
    GOOD.replace(b"X: 1", b"X: a\0b"),
    GOOD.replace(b"X: 1", b"Content-Length: 3"),
    GOOD.replace(b"X: 1", b"Transfer-Encoding: chunked"),
    GOOD.replace(b"X: 1", b"Transfer-Encoding: gzip"),
    GOOD.replace(b"X: 1", b"X: 2"),
    GOOD.replace(b"X: 1\r\n", b""),
    GOOD.replace(b"Host: a", b"Y: b"),
    GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    GOOD.replace(b"/v1", b"/v2"),
    GOOD.replace(b"{}", b"[]"),
    GOOD[:-1],
    GOOD + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
])
def test_a_bad_request_is_caught(bad):
    with pytest.raises((AssertionError, h11.RemoteProtocolError)):
        compare(bad, WANTED)
