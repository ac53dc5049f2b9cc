"""What do these bytes say? A strict reader of HTTP/1.1 for the grid, which shares no code with any gateway.

`requests` and `answers` read all that one connection carried. What a second strict reader could take another way is a
`flaw`, and reading stops there. What is odd but says the same to everybody is a `note`.
"""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
#: One chunk extension: a name, and perhaps a token or a quoted string (RFC 9112 section 7.1.1).
EXTENSION = re.compile(rb"(?:[ \t]*;[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*=[ \t]*(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|\"(?:[^\"\\]|\\.)*\"))?)*\Z")
HOST = re.compile(rb"[A-Za-z0-9.\-_\[\]:]*\Z")


class Flaw(ValueError):
    """Two readers could disagree about what follows."""


class Partial(Exception):
    """The message is not there yet; holds what is."""


@dataclass
class Message:
    start: list[bytes]
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    #: "none", "length", "chunked" or "close".
    framing: str = "none"
    whole: bool = False
    notes: list[str] = field(default_factory=list)
    #: Bytes it took.
    size: int = 0

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name.encode()]

    def one(self, name: str) -> str:
        return b", ".join(self.all(name)).decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.start[1])


@dataclass
class Reading:
    """All messages of a connection; the last may be unfinished. `flaw` is why reading stopped, if it did."""

    messages: list[Message]
    flaw: str | None = None
    #: Bytes of a head that has not ended.
    rest: bytes = b""

    @property
    def whole(self) -> list[Message]:
        return [message for message in self.messages if message.whole]


def requests(data: bytes) -> Reading:
    """What a server that was sent `data` has to take it for."""
    return _read(data, lambda rest: _request(rest))


def answers(data: bytes, ended: bool) -> Reading:
    """What a client that was sent `data` has to take it for, interim answers included."""
    return _read(data, lambda rest: _answer(rest, ended))


def _read(data, one) -> Reading:
    reading, at = Reading([]), 0
    while at < len(data):
        try:
            message, taken = one(data[at:])
        except Flaw as flaw:
            reading.flaw = f"{flaw} (at byte {at})"
            break
        except Partial:
            reading.rest = data[at:]
            break
        message.size = taken
        reading.messages.append(message)
        at += taken
        if not message.whole or message.start[1] == b"101":
            break  # behind a 101 there is another protocol
    return reading


def _request(data: bytes):
    start, fields, at, notes = _head(data)
    parts = start.split(b" ")
    if len(parts) != 3:
        raise Flaw(f"request line {start[:80]!r}")
    method, target, version = parts
    if not TOKEN.match(method):
        raise Flaw(f"method {method!r}")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Flaw(f"version {version!r}")
    message = Message(parts, fields, notes=notes)
    hosts = message.all("host")
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise Flaw(f"{len(hosts)} Host lines")
    if hosts and not HOST.match(hosts[0]):
        notes.append(f"Host {hosts[0]!r}")
    _target(target, hosts, notes)
    framing, length = _framing(message, version)
    return _body(message, data, at, framing or "none", length, ended=False)


def _target(target: bytes, hosts: list[bytes], notes: list[str]) -> None:
    absolute = re.match(rb"[a-z]+://([^/?#]*)", target)
    if absolute:
        if b"@" in absolute[1]:
            notes.append("a name and a password in the target")
        if hosts and absolute[1].rpartition(b"@")[2] != hosts[0]:
            raise Flaw(f"target {target!r} and Host {hosts[0]!r} disagree")
        notes.append("absolute target")
    elif not target.startswith(b"/") and target != b"*":
        raise Flaw(f"target {target!r}")
    if re.search(rb"[^!$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]", target):
        notes.append(f"characters of target {target[:60]!r}")


def _answer(data: bytes, ended: bool):
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise Flaw(f"no answer: {data[:40]!r}")
    start, fields, at, notes = _head(data)
    line = re.match(rb"(HTTP/1\.[01]) ([1-9][0-9][0-9])(?: (.*))?\Z", start)
    if not line:
        raise Flaw(f"status line {start[:80]!r}")
    if line[3] is None:
        notes.append("no blank after the status")
    message = Message([line[1], line[2], line[3] or b""], fields, notes=notes)
    framing, length = _framing(message, line[1])
    if message.status < 200 or message.status in (204, 304):
        if framing and message.status != 304:
            notes.append(f"a {message.status} with {framing}")
        framing = "none"
    return _body(message, data, at, framing or "close", length, ended)


def _head(data: bytes):
    """The first line, the fields, where the body starts, and notes."""
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[: end + 4]
    if match := re.search(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00", head):
        raise Flaw(f"{match[0]!r} in a head, after {head[max(0, match.start() - 30):match.start()]!r}")
    if end < 0:
        raise Partial
    lines = head[:-4].split(b"\r\n")
    notes, fields = [], []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name):
            raise Flaw(f"field line {line[:60]!r}")
        if re.search(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]", value):
            notes.append(f"control characters in {line[:40]!r}")
        if name.lower() in (b"content_length", b"transfer_encoding"):
            notes.append(f"{name.decode()} is {name.decode().replace('_', '-')} to some")
        fields.append((name, value.strip(b" \t")))
    return lines[0], fields, len(head), notes


def _framing(message: Message, version: bytes):
    """What the fields say: a kind of framing or none, and a length."""
    lengths, codings = message.all("content-length"), message.all("transfer-encoding")
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or version == b"HTTP/1.0":
            raise Flaw(f"{version.decode()} with codings {codings!r} and lengths {lengths!r}")
        return "chunked", 0
    if not lengths:
        return None, 0
    if len(lengths) > 1 or not re.match(rb"[0-9]{1,64}\Z", lengths[0]) or int(lengths[0]) >= 1 << 63:
        raise Flaw(f"lengths {lengths!r}")
    if lengths[0] != b"%d" % int(lengths[0]):
        message.notes.append(f"length {lengths[0]!r}")
    return "length", int(lengths[0])


def _body(message: Message, data: bytes, at: int, framing: str, length: int, ended: bool):
    message.framing = framing
    if framing == "chunked":
        return message, at + _chunks(message, data[at:])
    if framing == "length":
        message.body = data[at : at + length]
        message.whole = len(message.body) == length
    elif framing == "close":
        message.body, message.whole = data[at:], ended
    else:
        message.whole = True
    return message, at + len(message.body)


def _chunks(message: Message, data: bytes) -> int:
    at = 0
    while True:
        end = data.find(b"\n", at)
        line = data[at:] if end < 0 else data[at : end + 1]
        if end < 0:
            if not re.match(rb"[0-9A-Fa-f]{0,16}(?:[ \t;][^\r\x00]*)?\r?\Z", line):
                raise Flaw(f"chunk size {line[:40]!r}")
            return at
        size = re.match(rb"([0-9A-Fa-f]{1,16})([^\r\x00]*)\r\n\Z", line)
        if not size or not EXTENSION.match(size[2]):
            raise Flaw(f"chunk size {line[:40]!r}")
        count, at = int(size[1], 16), end + 1
        if count == 0:
            return _trailers(message, data, at)
        held = data[at : at + count]
        message.body += held
        tail = data[at + count : at + count + 2]
        if not b"\r\n".startswith(tail):
            raise Flaw(f"{tail!r} after a chunk of {count}")
        if len(held) < count or len(tail) < 2:
            return at
        at += count + 2


def _trailers(message: Message, data: bytes, at: int) -> int:
    if data[at : at + 2] == b"\r\n":
        message.whole = True
        return at + 2
    if b"\r\n\r\n" not in data[at:]:
        if re.search(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00", data[at:]):
            raise Flaw(f"trailers {data[at:at + 40]!r}")
        return at
    try:
        _, fields, taken, notes = _head(b"trailers\r\n" + data[at:])
    except Flaw as flaw:
        raise Flaw(f"trailers: {flaw}") from None
    message.notes += notes
    for name, _ in fields:
        if name.lower() in (b"content-length", b"transfer-encoding", b"host", b"authorization"):
            message.notes.append(f"trailer {name.decode()}")
    message.whole = True
    return at + taken - len(b"trailers\r\n")
