"""The two ends of the grid: an origin that writes down every byte and answers as told, and a client that sends exact bytes."""

import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import wire

#: Seconds until silence counts: for bytes that may still come; for an answer that has to come.
QUIET_S, PATIENCE_S = 0.25, 5.0


def completion(nonce: str) -> bytes:
    """An answer that says whose it is."""
    return (
        b'{"id":"%s","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",'
        b'"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
    ) % nonce.encode()


def plain(body: bytes, status: bytes = b"200 OK", lines: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
    return head % (status, lines, len(body)) + body


@dataclass
class Script:
    """What the origin answers to the request under test: pieces, with a pause before each but the first; then its end."""

    pieces: list[bytes]
    end: str = "keep"
    pause_s: float = 0.05
    #: Which connections it is for. "new": those that were kept are closed first. "kept": one that served before closes
    #: without a byte, and a new one answers.
    line: str = "any"


@dataclass
class Line:
    """One connection to the origin."""

    stream: socket.socket
    data: bytearray = field(default_factory=bytearray)
    served: bool = False
    closed: bool = False


class Origin:
    """Answers each message that the strict reader takes for whole; refuses what it cannot read, and closes."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.lock, self.lines = threading.Lock(), []
        self.nonce, self.script = "", None
        threading.Thread(target=self._accept, daemon=True).start()

    def expect(self, nonce: str, script: Script | None) -> None:
        """Starts a case: forgets what was seen, but keeps the connections that are open."""
        with self.lock:
            self.nonce, self.script = nonce, script
            for line in self.lines:
                line.data = bytearray(_unfinished(bytes(line.data)))
            self.lines = [line for line in self.lines if not line.closed]
            kept = list(self.lines) if script and script.line == "new" else []
        for line in kept:
            try:
                line.stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the proxy was first
        time.sleep(QUIET_S if kept else 0)

    def seen(self) -> list[bytes]:
        with self.lock:
            return [bytes(line.data) for line in self.lines if line.data]

    def stop(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            line = Line(stream)
            with self.lock:
                self.lines.append(line)
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: Line) -> None:
        stream = line.stream
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pending, continued = b"", False
        with stream:
            while True:
                try:
                    some = stream.recv(1 << 16)
                except OSError:
                    some = b""
                if not some:
                    line.closed = True
                    return
                with self.lock:
                    line.data += some
                pending += some
                try:
                    pending, continued = self._answer(line, pending, continued)
                except OSError:
                    pending = None
                if pending is None:
                    line.closed = True
                    return

    def _answer(self, line: Line, pending: bytes, continued: bool):
        """Answers all that is whole in `pending`; returns what is left, none if the connection is to end."""
        stream = line.stream
        while pending:
            reading = wire.requests(pending)
            if reading.flaw and not reading.whole:
                stream.sendall(plain(b'{"error":"ambiguous"}', b"400 Bad Request", b"Connection: close\r\n"))
                return None, False
            if not reading.whole:
                if reading.messages and not continued and "100-continue" in reading.messages[0].one("expect").lower():
                    stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    continued = True
                return pending, continued
            request, continued = reading.whole[0], False
            pending = pending[request.size :]
            if not self._say(line, request):
                return None, False
            line.served = True
        return pending, continued

    def _say(self, line: Line, request: wire.Message) -> bool:
        nonce, stream = request.one("x-nonce"), line.stream
        if self.script is None or nonce != self.nonce:
            lines = b"" if request.start[2] == b"HTTP/1.1" else b"Connection: close\r\n"
            stream.sendall(plain(completion(nonce), lines=lines))
            return not lines and request.one("connection").lower() != "close"
        if self.script.line == "kept" and line.served:
            return False
        for index, piece in enumerate(self.script.pieces):
            if index:
                time.sleep(self.script.pause_s)
            stream.sendall(piece)
        if self.script.end == "reset":
            time.sleep(self.script.pause_s)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.script.end == "keep"


def _unfinished(data: bytes) -> bytes:
    """What is behind the last whole request: the start of the next one, most often nothing."""
    reading = wire.requests(data)
    return b"" if reading.flaw else data[sum(request.size for request in reading.whole) :]


@dataclass
class Talk:
    """What a client got, and how its connection ended: "fin", "reset" or "open"."""

    sent: bytes
    got: bytes
    end: str
    #: It was sent nothing until it closed its own side.
    pressed: bool

    def reading(self) -> wire.Reading:
        return wire.answers(self.got, self.end == "fin")

    def final(self) -> list[wire.Message]:
        return [answer for answer in self.reading().messages if answer.status >= 200 or answer.status == 101]


class Client:
    def __init__(self, port: int):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent, self.got, self.end, self.pressed = b"", b"", "open", False

    def send(self, data: bytes) -> None:
        """Sends while it reads: a proxy that answers early must not make both sides wait."""
        self.sent += data
        left, deadline = memoryview(data), time.monotonic() + 4 * PATIENCE_S
        while left and self.end == "open" and time.monotonic() < deadline:
            readable, writable, _ = select.select([self.stream], [self.stream], [], 1.0)
            if readable:
                self._take()
            elif writable:
                try:
                    left = left[self.stream.send(left[: 1 << 16]) :]
                except OSError:
                    break  # what it said before it closed is still to be read

    def read(self, seconds: float) -> bool:
        """Whether anything came, an end included."""
        if self.end != "open" or not select.select([self.stream], [], [], seconds)[0]:
            return False
        self._take()
        return True

    def _take(self) -> None:
        try:
            some = self.stream.recv(1 << 16)
        except ConnectionError:
            self.end = "reset"
            return
        self.got += some
        if not some:
            self.end = "fin"

    def listen(self, count: int, patience_s: float = PATIENCE_S) -> None:
        """Reads until `count` final answers are whole and it is quiet, until the end, or until patience ends."""
        deadline = time.monotonic() + patience_s
        while self.end == "open" and time.monotonic() < deadline:
            finals = [one for one in wire.answers(self.got, False).whole if one.status >= 200]
            enough = len(finals) >= count
            if not self.read(QUIET_S if enough else max(0.0, deadline - time.monotonic())) and enough:
                break

    def half_close(self) -> None:
        try:
            self.stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def talk(self) -> Talk:
        return Talk(self.sent, self.got, self.end, self.pressed)

    def close(self) -> None:
        self.stream.close()


def shown(data: bytes, most: int = 1500) -> str:
    """Bytes for people: one line of text for each line, what is not text escaped."""
    text = re.sub(rb"(?<=\n)(?!\Z)", b"\x00", data[:most])
    lines = [repr(line)[2:-1] for line in text.split(b"\x00")]
    return "\n".join(lines) + (f"\n... {len(data)} bytes in all" if len(data) > most else "")
