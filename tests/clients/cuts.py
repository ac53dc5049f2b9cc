"""A backend that ends a stream at any byte: every cut of two short streams, and what a client has to make of each.

A case is asked for by its name, as the text of the request's message. Any other text gets the whole stream.
"""

import dataclasses
import json
import socket
import struct
import threading

MODEL = "cuts"  # both APIs


def chat_record(delta, finish="null"):
    return ('data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
            f'{delta},"finish_reason":{finish}}}]}}\n\n').encode()


def messages_record(kind, rest=""):
    return f'event: {kind}\ndata: {{"type":"{kind}"{rest}}}\n\n'.encode()


DONE = b"data: [DONE]\n\n"
RECORDS = {
    "chat": [
        chat_record('{"role":"assistant","content":"a"}'), chat_record('{"content":"b"}'),
        chat_record("{}", '"stop"'), DONE],
    "messages": [
        messages_record("message_start", ',"message":{"id":"m","type":"message","role":"assistant","model":"m",'
                        '"content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":0}}'),
        messages_record("content_block_start", ',"index":0,"content_block":{"type":"text","text":""}'),
        messages_record("content_block_delta", ',"index":0,"delta":{"type":"text_delta","text":"a"}'),
        messages_record("content_block_stop", ',"index":0'),
        messages_record("message_delta", ',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}'),
        messages_record("message_stop")],
}
# The first record with content: what comes before it alone is held, and a failure there is a status.
CONTENT = {"chat": 0, "messages": 2}
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}
# A chunk for each record and a last one, or records that end with the connection.
FRAMINGS = {"chunked": b"Transfer-Encoding: chunked", "close": b"Connection: close"}


def pieces(api, framing):
    """What is written behind the head, record by record, and of each how much completes its record."""
    if framing == "close":
        return [(record, len(record)) for record in RECORDS[api]]
    chunks = []
    for record in RECORDS[api]:
        size = b"%x\r\n" % len(record)
        chunks.append((size + record + b"\r\n", len(size) + len(record)))
    return [*chunks, (b"0\r\n\r\n", 5)]


@dataclasses.dataclass(frozen=True)
class Case:
    api: str
    framing: str
    ending: str  # "fin" or "reset"
    cut: int  # bytes behind the head

    @property
    def name(self):
        return f"{self.framing} {self.ending} {self.cut}"

    @property
    def wire(self):
        return b"".join(piece for piece, _ in pieces(self.api, self.framing))[:self.cut]

    @property
    def whole(self):
        """Records that are complete."""
        count = behind = 0
        for piece, completes in pieces(self.api, self.framing):
            count += behind + completes <= self.cut
            behind += len(piece)
        return min(count, len(RECORDS[self.api]))

    @property
    def has_ended(self):
        """Whether a client sees a proper end.

        The SDKs for chat take `[DONE]` for it, whatever comes of the connection then. Without it, and for messages, the
        body has to end too. Where the close ends the body, it may if the last word has been said and nothing is cut.
        """
        records = RECORDS[self.api]
        if self.api == "chat" and self.whole == len(records):
            return True
        if self.framing == "chunked":
            return self.cut == sum(len(piece) for piece, _ in pieces(self.api, self.framing))
        if self.ending == "reset" or self.whole < len(records) - (self.api == "chat"):
            return False
        rest = self.wire[sum(map(len, records[:self.whole])):]
        return rest in (b"", DONE[:-2], DONE[:-1])

    @property
    def events(self):
        """What an SDK gives out of it; `[DONE]` it keeps to itself. After a reset it may be fewer: what was written may
        be lost."""
        if self.whole <= CONTENT[self.api]:
            return 0
        return min(self.whole, len(RECORDS[self.api]) - (self.api == "chat"))

    def told(self):
        return {"api": self.api, "name": self.name, "events": self.events, "ended": self.has_ended,
                "mayLose": self.ending == "reset"}


def cases(api=None):
    """Every cut of every stream. One that is not cut ends without a reset."""
    return [
        Case(one, framing, ending, cut)
        for one in RECORDS if api in (None, one)
        for framing in FRAMINGS
        for ending in ("fin", "reset")
        for cut in range(sum(len(piece) for piece, _ in pieces(one, framing)) + (ending == "fin"))
    ]


class Server:
    """Answers requests by the case that they name."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as reader:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            path = reader.readline().split(b" ")[1].decode()
            length = 0
            while (line := reader.readline().strip()):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            asked = json.loads(reader.read(length))["messages"][0]["content"]
            api = next(api for api, known in PATHS.items() if known == path)
            framing, ending, cut = asked.split(" ") if asked != "whole" else ("close", "fin", 1 << 20)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%b\r\n\r\n" % FRAMINGS[framing])
            connection.sendall(Case(api, framing, ending, int(cut)).wire)
            if ending == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def sampled():
    """Fewer, for where all cost too much: each end and middle of a record with its neighbours."""
    for case in cases():
        at, places = 0, set()
        for piece, completes in pieces(case.api, case.framing):
            places |= {at, at + 1, at + completes // 2, at + completes - 1, at + completes, at + len(piece) - 1}
            at += len(piece)
        if case.cut in {*places, at}:
            yield case
