"""What is sent? The edge cases of HTTP/1.1 that any reverse proxy can be asked; ids are those of the whole-system tests.

Requests are chat requests, so that Ringway routes them like every other proxy does. `@N` is the nonce of the case.
Where an ambiguity can hide a request, one is hidden, with a nonce of its own: whoever forwards it has been smuggled past.
"""

from dataclasses import dataclass, field
from typing import Callable

from ends import Script, plain

J = b'{"model":"m","messages":[]}'  # 27 bytes, 0x1b
START = b"POST /v1/chat/completions HTTP/1.1\r\n"
FIELDS = b"Host: gw.test\r\nContent-Type: application/json\r\nX-Nonce: @N\r\n"
P = START + FIELDS
FRAMED = b"Content-Length: 27\r\n\r\n" + J
#: The request that nobody may see: its nonce is not that of the case.
EVIL = P.replace(b"@N", b"evil") + FRAMED
CHUNKS = b"1b\r\n" + J + b"\r\n0\r\n\r\n"
HELLO = b'{"say":"hello"}'


@dataclass
class Case:
    """One row. `want`: "refuse", "pass", "either" of them, or "answer" (a plain request, judged by what becomes of the answer)."""

    id: str
    title: str
    want: str
    #: Parts; the next is sent once something came back, or nothing did for a while.
    parts: list[bytes]
    #: Statuses of a right refusal.
    statuses: tuple[int, ...] = (400,)
    #: Whether a refusal has to close the connection, and whether closing without a word is one.
    closes: bool = True
    silent: bool = False
    fin: bool = False
    #: What the origin must have as body if the request is passed on; none if that is not for us to say.
    body: bytes | None = None
    #: Final answers if all is well, and how many refusals may follow them.
    answers: int = 1
    extra: int = 0
    #: Nonces that the origin may see beside that of the case.
    also: tuple[str, ...] = ()
    #: Field names that must not reach the origin, or the client.
    drops: tuple[str, ...] = ()
    script: Script | None = None
    #: How often the origin may be asked.
    asks: int = 1
    #: Status and body of an answer that may be passed on; none if it may not.
    passed: tuple[int, bytes] | None = None
    #: The answer ends before it is whole, so nothing may look whole.
    cut: bool = False
    #: One more look at what was seen: complaints as (grade, text).
    look: Callable | None = field(default=None, repr=False)


def _text(data: bytes) -> str:
    return repr(data)[2:-1] or "empty"


def refuse(id, title, data, **more) -> Case:
    return Case(id, title, "refuse", [data], **more)


def either(id, title, data, **more) -> Case:
    return Case(id, title, "either", [data], **{"body": J, **more})


def passes(id, title, data, **more) -> Case:
    return Case(id, title, "pass", [data], **{"body": J, **more})


def answer(id, title, reply, end="keep", line="any", **more) -> Case:
    pieces = reply if isinstance(reply, list) else [reply]
    if not more.get("passed") and not more.get("cut"):
        end = more.pop("stays", "close")  # whoever reads until the end must be able to
    return Case(id, title, "answer", [P + FRAMED], body=J, script=Script(pieces, end, line=line), **more)


def two_faced(id, title, coding: bytes, **more) -> list[Case]:
    """A coding beside a length: once the hidden request is behind the last chunk, once it is inside a chunk."""
    behind = b"0\r\n\r\n" + EVIL
    inside = b"%x\r\n%s\r\n0\r\n\r\n" % (len(EVIL), EVIL)
    line = inside.index(b"\n") + 1
    return [
        refuse(id + "a", title + ", CL.TE", P + b"Content-Length: %d\r\n%s\r\n\r\n%s" % (len(behind), coding, behind), **more),
        refuse(id + "b", title + ", TE.CL", P + b"%s\r\nContent-Length: %d\r\n\r\n%s" % (coding, line, inside), **more),
    ]


def lines() -> list[Case]:
    def after(id, title, tail, **more):
        return refuse(id, title, P + tail + FRAMED, **more)

    cases = [
        refuse("A01", "bare LF everywhere", (P + FRAMED).replace(b"\r\n", b"\n")),
        after("A02", "one line ends in bare LF", b"X: y\n"),
        refuse("A03", "blank line is a bare LF", P + b"Content-Length: 27\r\n\n" + J),
        after("A04", "bare CR in a value", b"X: a\rb\r\n"),
        refuse("A05", "bare CR after the request line", START[:-2] + b"\r" + FIELDS + FRAMED),
        refuse("A06", "CR and a letter as end of head", P + b"Content-Length: 0\r\n\rZ" + EVIL),
        after("A07", "obs-fold", b"X: a\r\n b\r\n"),
        refuse("A08", "folded Transfer-Encoding beside a length", P + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n%s" % (5 + len(EVIL), EVIL), statuses=(400, 501)),
        refuse("A09", "first field is folded", START + b" " + FIELDS + FRAMED),
        after("A10", "blank before a colon", b"X : y\r\n"),
        refuse("A11", "tab before the colon of Content-Length", P + b"Content-Length\t: 27\r\n\r\n" + J),
        passes("A12", "one blank line ahead", b"\r\n" + P + FRAMED),
        after("A14", "NUL in a value", b"X: a\x00b\r\n"),
        after("A15", "NUL in a name", b"X\x00: a\r\n"),
        refuse("A16", "NUL in the target", b"POST /v1/\x00chat HTTP/1.1\r\n" + FIELDS + FRAMED),
        after("A19", "line without a colon", b"NoColonHere\r\n"),
        after("A20", "empty name", b": x\r\n"),
        after("A21a", "bracket in a name", b"Bad[Name: x\r\n"),
        after("A21b", "letter beyond ASCII in a name", b"\xc3\xabX: y\r\n"),
        refuse("A22", "Transfer-Encoding broken over two lines", P + b"Transfer-\r\nEncoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        passes("A23", "equal names keep their order", P + b"X: 1\r\nX: 2\r\n" + FRAMED, look=_order),
        either("A24", "opaque bytes in a value", P + b"X: \xff\xfe\r\n" + FRAMED),
    ]
    for mark, byte in zip("abcd", (b"\x01", b"\x0b", b"\x0c", b"\x7f")):
        cases.append(after("A17" + mark, f"control byte {byte[0]:#04x} in a value", b"X: a" + byte + b"b\r\n"))
    for mark, coding in zip("abc", (b"\xa0chunked", b"\x85chunked", b"chunked\xff")):
        cases += two_faced("A18" + mark, f"coding {_text(coding)}", b"Transfer-Encoding: " + coding, statuses=(400, 501))
    return cases


def _order(seen):
    for request in seen.requests:
        if request.one("x") not in ("1, 2", "1,2"):
            yield "BAD", f"X arrives as {request.one('x')!r}"


def targets() -> list[Case]:
    def line(id, text: bytes, want=refuse, **more):
        return want(id, _text(text), text + b"\r\n" + FIELDS + FRAMED, **more)

    path, wrong = b"/v1/chat/completions", {"statuses": (400, 404, 405, 501)}
    version = {"statuses": (400, 505, 426)}
    cases = [
        line("B01", b"POST  " + path + b" HTTP/1.1"),
        line("B02", b"POST\t" + path + b" HTTP/1.1"),
        line("B03", b"POST " + path + b" HTTP/1.1 "),
        line("B04", b"POST HTTP/1.1"),
        refuse("B05", "HTTP/0.9", b"GET /v1/models\r\n\r\n", statuses=(400, 505), also=("",)),
        refuse("B08", "preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", statuses=(400, 405, 501, 505), silent=True),
        line("B09", b"POST /v1/chat /completions HTTP/1.1"),
        line("B10", b"POST /v1/chat\xc3\xa9 HTTP/1.1"),
        line("B11", b"POST " + path + b"#frag HTTP/1.1"),
        line("B13", b"POST http://gw.test" + path + b" HTTP/1.1", passes),
        line("B14", b"POST http://other.test" + path + b" HTTP/1.1", either),
        line("B15", b"POST * HTTP/1.1", statuses=(400, 404, 405)),
        line("B17", b"CONNECT internal:22 HTTP/1.1", **wrong, silent=True),
        line("B19a", b"post " + path + b" HTTP/1.1", either, **wrong),
        line("B19b", b"FOOBAR " + path + b" HTTP/1.1", either, **wrong),
        line("B19c", b"G=\":<>(e),[T];? " + path + b" HTTP/1.1", **wrong),
        line("B20a", b"POST v1/chat/completions HTTP/1.1"),
        line("B20b", b"POST ! HTTP/1.1"),
        line("B25", b"POST http://user:pw@gw.test" + path + b" HTTP/1.1"),
    ]
    cases += [line("B06" + m, b"POST " + path + b" " + v, **version) for m, v in zip("abc", (b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9"))]
    odd = (b"HTTP/01.1", b"http/1.1", b"HTTP/1", b"HTTP/ 1.1", b"HTTP/1.32", b"HTTP/4294967295.255")
    cases += [line("B07" + mark, b"POST " + path + b" " + v, **version) for mark, v in zip("abcdef", odd)]
    marks = zip("abcdefgh", b'\\"<>{}^`')
    cases += [line("B12" + mark, b"POST /v1/chat" + bytes([byte]) + b"completions HTTP/1.1") for mark, byte in marks]

    def host(id, title, text: bytes, want=refuse, **more):
        return want(id, title, START + text + FIELDS.replace(b"Host: gw.test\r\n", b"") + FRAMED, **more)

    cases += [
        host("C01", "no Host", b""),
        host("C02", "Host twice", b"Host: gw.test\r\nHost: gw.test\r\n"),
        host("C03", "two Hosts", b"Host: gw.test\r\nHost: other.test\r\n"),
        host("C04", "empty Host", b"Host: \r\n", either),
        host("C05", "list of Hosts", b"Host: gw.test, other.test\r\n"),
        host("C08", "NUL in Host", b"Host: gw.test\x00.evil\r\n"),
    ]
    for mark, value in zip("abcd", (b"u@gw.test", b"gw.test/path", b"gw.test?x", b"gw.test/v1/models?")):
        cases.append(host("C06" + mark, f"Host: {value.decode()}", b"Host: " + value + b"\r\n"))
    for mark, value in zip("abc", (b"gw.test:0", b"gw.test:99999", b"gw.test:abc")):
        cases.append(host("C07" + mark, f"Host: {value.decode()}", b"Host: " + value + b"\r\n", either if mark == "a" else refuse))
    old = START.replace(b"1.1", b"1.0") + FIELDS.replace(b"Host: gw.test\r\n", b"")
    cases.append(either("C09", "HTTP/1.0 without Host", old + FRAMED))
    return cases


def lengths() -> list[Case]:
    def length(id, value: bytes, want=refuse, **more):
        return want(id, "length " + _text(value), P + b"Content-Length: " + value + b"\r\n\r\n" + J, **more)

    long = 27 + len(EVIL)
    cases = [
        passes("D00", "a plain request", P + FRAMED),
        refuse("D01a", "two lengths, the shorter first", P + b"Content-Length: 27\r\nContent-Length: %d\r\n\r\n" % long + J + EVIL),
        refuse("D01b", "two lengths, the longer first", P + b"Content-Length: %d\r\nContent-Length: 27\r\n\r\n" % long + J + EVIL),
        either("D02", "the same length twice", P + b"Content-Length: 27\r\n" + FRAMED),
        length("D03", b"27, 27", either),
        refuse("D04a", "list of lengths, shorter first", P + b"Content-Length: 27, %d\r\n\r\n" % long + J + EVIL),
        refuse("D04b", "list of lengths, longer first", P + b"Content-Length: %d, 27\r\n\r\n" % long + J + EVIL),
        refuse("D12", "empty length, then a length", P + b"Content-Length: \r\n" + FRAMED),
        length("D14", b"027", either),
        length("D14b", b"0" * 30 + b"27", either),
        refuse("D16", "length of 2^63-1", P + b"Content-Length: 9223372036854775807\r\n\r\n", statuses=(413,)),
        refuse("D18", "Content_Length, no length", P + b"Content_Length: %d\r\n\r\n" % len(EVIL) + EVIL, extra=1, also=("evil",)),
        either("D18b", "Content_Length beside a length", P + b"Content_Length: 5\r\n" + FRAMED),
        refuse("D19", "body ends early", P + b"Content-Length: 27\r\n\r\n" + J[:10], fin=True, silent=True, statuses=(400, 408, 499)),
        passes("D20", "a stray byte behind the body", P + FRAMED + b"X\r\n\r\n", extra=1),
        either("D21", "GET with a request as its body", P.replace(b"POST", b"GET") + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL, body=None, statuses=(400, 405), look=_all_or_nothing(EVIL)),
    ]
    values = (b"+27", b"-1", b"-0", b"-27", b"0x1b", b"0o33", b"2_7", b"2 7", b"27 27", b"27.0", b"27e0", b"27Z", b"", b",", b",27", b"27,",
              b"18446744073709551616", b"18446744073709551643", b"99999999999999999999", b"\xef\xbc\x92\xef\xbc\x97", b"27\x0b", b"27;", b'"27"')
    cases += [length(f"D05{chr(97 + at)}", value, statuses=(400, 413)) for at, value in enumerate(values)]
    return cases


def codings() -> list[Case]:
    soft = {"statuses": (400, 501)}
    cases = two_faced("E01", "coding and length", b"Transfer-Encoding: chunked")
    for at, value in enumerate((b"xchunked", b"identity", b"chunked, identity", b"identity, chunked", b"chunked, gzip", b"gzip, chunked", b"chunked, chunked",
                                b",chunked", b"chunked,", b'"chunked"', b"'chunked'", b"chunked;q=1", b"\x0bchunked", b"\x0cchunked", b"chunked\x00", b"", b"chunked x")):
        line = b"Transfer-Encoding: " + value
        cases += two_faced(f"E04{chr(97 + at)}", f"{_text(value)} beside a length", line, **soft)
        cases.append(refuse(f"E05{chr(97 + at)}", f"coding {_text(value)}, no length", P + line + b"\r\n\r\n" + CHUNKS, **soft))
    cases += two_faced("E08a", "chunked on two lines, length", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", **soft)
    cases.append(refuse("E08b", "chunked on two lines", P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, **soft))
    cases.append(refuse("E09", "chunked, identity on two lines", P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS, **soft))
    cases += [
        passes("E12a", "Chunked", P + b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNKS),
        passes("E12b", "CHUNKED", P + b"Transfer-Encoding: CHUNKED\r\n\r\n" + CHUNKS),
        passes("E13a", "blank behind chunked", P + b"Transfer-Encoding: chunked \r\n\r\n" + CHUNKS),
        passes("E13b", "tab before chunked", P + b"Transfer-Encoding:\tchunked\r\n\r\n" + CHUNKS),
        refuse("E16", "HTTP/1.0 in chunks", P.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS),
        either("E17", "Transfer_Encoding beside a length", P + b"Transfer_Encoding: chunked\r\n" + FRAMED),
        passes("E20", "Transfer-%45ncoding", P + b"Transfer-%45ncoding: chunked\r\n" + FRAMED),
        either("E22", "Connection names Transfer-Encoding", P + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS),
        either("E23", "GET in chunks", P.replace(b"POST", b"GET") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, body=None, statuses=(400, 405), look=_all_or_nothing(J)),
    ]
    cases += two_faced("E16x", "HTTP/1.0, coding and length", b"Transfer-Encoding: chunked")
    for case in cases[-2:]:
        case.parts = [case.parts[0].replace(b"HTTP/1.1", b"HTTP/1.0", 1)]
    cases += two_faced("E18a", "blank before the colon", b"Transfer-Encoding : chunked")
    cases += two_faced("E18b", "tab before the colon", b"Transfer-Encoding\t: chunked")
    cases += two_faced("E18c", "vertical tab before the colon", b"Transfer-Encoding\x0b: chunked")
    cases += two_faced("E19a", "coding behind a bare CR", b"X: y\rTransfer-Encoding: chunked")
    cases += two_faced("E19b", "coding behind a bare LF", b"X: y\nTransfer-Encoding: chunked")
    return cases


def chunks() -> list[Case]:
    head = P + b"Transfer-Encoding: chunked\r\n\r\n"

    def good(id, title, data, **more):
        return passes(id, title, head + data, **more)

    def bad(id, title, data, **more):
        return refuse(id, title, head + data, **more)

    def sized(size: bytes) -> bytes:
        return size + b"\r\n" + J + b"\r\n0\r\n\r\n"

    ones = b"".join(b"1\r\n%c\r\n" % byte for byte in J)
    cases = [
        good("U01", "one chunk", CHUNKS),
        good("U02a", "size 1B", sized(b"1B")),
        good("U02b", "size 001B", sized(b"001B")),
        good("U02c", "chunks of one byte", ones + b"0\r\n\r\n"),
        bad("U03", "empty size line", b"\r\n\r\n"),
        bad("U04", "only an extension", b";a=b\r\n\r\n"),
        bad("U08", "size ends in bare LF", CHUNKS.replace(b"\r\n", b"\n", 1)),
        bad("U09", "bare LF in an extension, hiding", b"1b;a\n" + J + b"\r\n0\r\n\r\n"),
        bad("U09b", "bare LF, a request behind it", b"2;\nxx\r\n%x\r\n0\r\n\r\n" % (len(EVIL) + 5) + EVIL + b"\r\n0\r\n\r\n"),
        bad("U10", "bare CR in an extension", b"1b;a\rX\r\n" + J + b"\r\n0\r\n\r\n"),
        bad("U10b", "two CRs in a size line", b"2\r\r;a\r\nhe\r\n0\r\n\r\n"),
        bad("U11", "CR and a letter after a size", b"1b\rX" + J + b"\r\n0\r\n\r\n"),
        bad("U12", "NUL in an extension", sized(b"1b;\x00e")),
        bad("U13", "extension without a name", sized(b"1b;")),
        bad("U13b", "extension with a bracket", sized(b"1b;bad[=x")),
        good("U14", "extensions", b"1b;a=b\r\n" + J + b"\r\n0;c\r\n\r\n"),
        bad("U15", "CRLF inside a quoted extension", b'1b;a="\r\n' + J + b"\r\n0\r\n\r\n"),
        bad("U16", "extension of 64 KiB", sized(b"1b;" + b"a" * 65536), statuses=(400, 413, 431)),
        bad("U18", "no CRLF after the data", b"1b\r\n" + J + b"0\r\n\r\n"),
        bad("U19", "data beyond the size", b"1b\r\n" + J + b"!!\r\n0\r\n\r\n"),
        bad("U20", "data ends in bare LF", b"1b\r\n" + J + b"\n0\r\n\r\n"),
        bad("U20b", "XX in place of CRLF", b"1b\r\n" + J + b"XX0\r\n\r\n"),
        bad("U21", "trailers end in bare LF", b"1b\r\n" + J + b"\r\n0\r\n\n"),
        bad("U21b", "last size ends in bare LF", b"1b\r\n" + J + b"\r\n0\n\r\n"),
        bad("U22", "one CRLF too many", b"1b\r\n" + J + b"\r\n\r\n0\r\n\r\n"),
        bad("U23", "body ends early", b"5\r\nhello\r\n", fin=True, silent=True, statuses=(400, 408, 499)),
        bad("U25", "bad size after good chunks", (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 8 + b"ZZ\r\n"),
        good("U26", "a request as a trailer", b"1b\r\n" + J + b"\r\n0\r\nX:POST / HTTP/1.1\r\n\r\n"),
        bad("U27", "10,000 trailers", b"1b\r\n" + J + b"\r\n0\r\n" + b"X: y\r\n" * 10000 + b"\r\n", statuses=(400, 413, 431)),
        either("U27a", "2,000 trailers, 12 KiB", head + b"1b\r\n" + J + b"\r\n0\r\n" + b"X: y\r\n" * 2000 + b"\r\n", statuses=(400, 413, 431)),
        bad("U27b", "trailer of 100 KiB", b"1b\r\n" + J + b"\r\n0\r\nX: " + b"a" * 102400 + b"\r\n\r\n", statuses=(400, 413, 431)),
        bad("U29a", "folded trailer", b"1b\r\n" + J + b"\r\n0\r\nX: a\r\n b\r\n\r\n"),
        bad("U29b", "trailer ends in bare LF", b"1b\r\n" + J + b"\r\n0\r\nX: a\n\r\n"),
        bad("U29c", "trailer without a colon", b"1b\r\n" + J + b"\r\n0\r\nXa\r\n\r\n"),
    ]
    for mark, size in zip("abc", (b" 1b", b"1b ", b"1b\t")):
        cases.append(bad("U05" + mark, f"size {_text(size)}", sized(size)))
    for mark, size in zip("abcdefg", (b"0x1b", b"+1b", b"-1", b"1_b", b"1bh", b"0_1b", b"1b,1b")):
        cases.append(bad("U06" + mark, f"size {_text(size)}", sized(size)))
    for mark, size in zip("abcde", (b"F" * 16, b"1" + b"0" * 15 + b"1b", b"10000000" + b"0000001b", b"7" + b"F" * 15, b"0" * 1000 + b"1b")):
        cases.append(bad("U07" + mark, f"size {size[:17].decode()}{'...' if len(size) > 17 else ''}", sized(size), statuses=(400, 413)))
    for mark, trailer in zip("abc", (b"Content-Length: 50", b"Transfer-Encoding: chunked", b"Host: evil")):
        cases.append(good("U28" + mark, f"trailer {trailer.decode()}", b"1b\r\n" + J + b"\r\n0\r\n" + trailer + b"\r\n\r\n", look=_merged))
    return cases


def _merged(seen):
    for request in seen.requests:
        if request.one("host") == "evil" or len(request.all("content-length")) > 1:
            yield "BAD", "a trailer became a field of the head"


def manners() -> list[Case]:
    def hop(id, title, text: bytes, want=passes, behind=b"", **more):
        return want(id, title, P + text + FRAMED + behind, **more)

    second = P.replace(b"@N", b"second") + FRAMED
    two = {"behind": second, "answers": 2, "also": ("second",)}
    h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\npoison"
    return [
        Case("H01", "a client that waits for 100", "pass", [P + b"Expect: 100-continue\r\nContent-Length: 27\r\n\r\n", J], body=J, look=_continued),
        hop("H03", "Expect, body at once, a second request", b"Expect: 100-continue\r\n", **two),
        hop("H04a", "Expect: 200-ok", b"Expect: 200-ok\r\n", refuse, statuses=(417, 400)),
        hop("H04b", "Expect: y 100-continue", b"Expect: y 100-continue\r\n", refuse, statuses=(417, 400)),
        hop("H04c", "Expect twice", b"Expect: 100-continue\r\nExpect: 100-continue\r\n", either, statuses=(417, 400)),
        Case("H05", "Expect on HTTP/1.0", "pass", [P.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\n" + FRAMED], body=J, look=_no_interim),
        hop("H08", "two requests in one write", b"", **two),
        hop("H09", "a request behind Connection: close", b"Connection: close\r\n", behind=EVIL),
        hop("H10", "rubbish behind a request", b"", behind=b"rubbish here\r\n\r\n", extra=1),
        hop("H12", "Upgrade: foo and a second request", b"Connection: Upgrade\r\nUpgrade: foo\r\n", **two, drops=("upgrade",)),
        hop("H13", "h2c", h2c, drops=("upgrade", "http2-settings"), look=_h2c),
        hop("H17a", "Connection names Host", b"Connection: Host\r\n", either),
        hop("H17b", "Connection names Content-Length", b"Connection: Content-Length\r\n", either),
        hop("H17c", "Connection names X-Forwarded-For", b"Connection: keep-alive, X-Forwarded-For\r\n", either),
        hop("H18a", "Connection names a field", b"Connection: X-Foo\r\nX-Foo: 1\r\n", drops=("x-foo",)),
        hop("H18b", "in another case", b"Connection: x-fOO\r\nX-Foo: 1\r\n", drops=("x-foo",)),
        hop("H18c", "on several lines", b"Connection: X-Bar\r\nConnection: X-Foo\r\nX-Foo: 1\r\n", drops=("x-foo",)),
        hop("H19a", "Keep-Alive, Proxy-Connection", b"Keep-Alive: timeout=5\r\nProxy-Connection: x\r\n", drops=("keep-alive", "proxy-connection")),
        hop("H19b", "TE, Trailer", b"TE: gzip\r\nTrailer: X\r\n", drops=("te",)),
        hop("H19c", "Upgrade alone", b"Upgrade: x\r\n", drops=("upgrade",)),
        hop("H19d", "Proxy-Authorization", b"Proxy-Authorization: Basic eDp5\r\n", drops=("proxy-authorization",)),
        Case("J01", "HTTP/1.0 gets no chunks", "pass", [P.replace(b"1.1", b"1.0") + FRAMED], body=J, look=_no_chunks),
        refuse("K01a", "a field of 100 KiB", P + b"X: " + b"a" * 102400 + b"\r\n" + FRAMED, statuses=(400, 413, 414, 431)),
        refuse("K01b", "a name of 100 KiB", P + b"a" * 102400 + b": x\r\n" + FRAMED, statuses=(400, 413, 414, 431)),
        refuse("K01c", "a method of 100 KiB", b"P" * 102400 + START[4:] + FIELDS + FRAMED, statuses=(400, 405, 413, 414, 431, 501)),
        refuse("K01d", "10,000 fields", P + b"X: y\r\n" * 10000 + FRAMED, statuses=(400, 413, 414, 431)),
        refuse("K01e", "a target of 100 KiB", START.replace(b" HTTP", b"?" + b"a" * 102400 + b" HTTP") + FIELDS + FRAMED, statuses=(400, 413, 414, 431)),
        Case("H14", "101 that nobody asked for", "answer", [P + FRAMED], body=J, script=Script([switch], "close")),
        Case("H14b", "101 that the client asked for", "answer", [P + b"Connection: Upgrade\r\nUpgrade: foo\r\n" + FRAMED], body=J, script=Script([switch], "close")),
        passes("H11", "50 requests in one write", second * 49 + P + FRAMED, answers=50, also=("second",)),
    ]


def _h2c(seen):
    for request in seen.requests:
        if "upgrade" in request.one("connection").lower() and request.one("upgrade").lower() == "h2c":
            yield "BAD", "the next hop is asked for a tunnel that nobody here looks into"


def _all_or_nothing(body: bytes):
    """A body that means nothing may be left out, not cut."""

    def look(seen):
        for request in seen.requests:
            if request.body not in (body, b""):
                yield "BAD", f"origin: another body: {request.body[:60]!r}"
            elif not request.body:
                yield "lax", "origin: the body was left out"

    return look


def _continued(seen):
    if not any(one.status == 100 for one in seen.talk.reading().messages):
        yield "lax", "no 100 for a client that waits"


def _no_interim(seen):
    if any(one.status < 200 for one in seen.talk.reading().messages):
        yield "lax", "an interim answer for HTTP/1.0"


def _no_chunks(seen):
    if any(one.framing == "chunked" for one in seen.talk.final()):
        yield "BAD", "chunks for HTTP/1.0"


def answers() -> list[Case]:
    def ok(lines: bytes, body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + lines + b"\r\n" + body

    n, hello = b"Content-Length: %d\r\n" % len(HELLO), (200, HELLO)
    chunked = b"Transfer-Encoding: chunked\r\n"
    chunk = b"%x\r\n%s\r\n" % (len(HELLO), HELLO)
    whole = chunk + b"0\r\n\r\n"
    poison = plain(b"poison")
    must = {"passed": hello}
    cases = [
        answer("L00a", "answer with a length", ok(n, HELLO), **must),
        answer("L00b", "answer in chunks", ok(chunked, whole), **must),
        answer("L00c", "answer until close", ok(b"", HELLO), "close", **must),
        answer("L01a", "answer with length and coding", ok(n + chunked, whole), **must),
        answer("L01b", "length shorter than the chunks", ok(b"Content-Length: 3\r\n" + chunked, whole), **must),
        answer("L01c", "poison behind the chunks, in the length", ok(b"Content-Length: %d\r\n" % (len(whole) + len(poison)) + chunked, whole + poison), **must),
        answer("L02a", "two lengths", ok(b"Content-Length: 5\r\n" + n, HELLO), stays="keep"),
        answer("L02b", "list of lengths", ok(b"Content-Length: 5, %d\r\n" % len(HELLO), HELLO)),
        answer("L02c", "the same length twice", ok(n + n, HELLO), **must),
        answer("L04", "chunked, gzip", ok(b"Transfer-Encoding: chunked, gzip\r\n", b"hello"), "close"),
        answer("L04b", "coding xchunked", ok(b"Transfer-Encoding: xchunked\r\n", whole), "close"),
        answer("L05", "HTTP/1.0 in chunks", ok(chunked, whole).replace(b"1.1", b"1.0"), "close", **must),
        answer("L06", "bad chunk size after good chunks", [ok(chunked, chunk), chunk + b"ZZ\r\n"], "close", cut=True),
        answer("L06b", "chunk data without CRLF", [ok(chunked, chunk), HELLO.join([b"f\r\n", b"XX0\r\n\r\n"])], "close", cut=True),
        answer("L07a", "chunks end early", ok(chunked, chunk), "close", cut=True),
        answer("L07b", "length is one more than comes", ok(b"Content-Length: %d\r\n" % (len(HELLO) + 1), HELLO), "close", cut=True),
        answer("L07c", "reset inside the body", ok(b"Content-Length: 50\r\n", HELLO), "reset", cut=True),
        answer("L07d", "inside a chunk", ok(chunked, b"50\r\n" + HELLO), "close", cut=True),
        answer("L07e", "last chunk without its CRLF", ok(chunked, chunk + b"0\r\n"), "close", cut=True),
        answer("L07f", "late end, parts had gone out", [ok(chunked, chunk), chunk], "close", cut=True),
        answer("L08", "obs-fold in an answer", ok(b"X: a\r\n b\r\n" + n, HELLO), **must),
        answer("L08b", "fold that hides a length", ok(b"X: a\r\n Content-Length: 3\r\n" + n, HELLO), **must),
        answer("L09", "blank before a colon in an answer", ok(b"X : y\r\n" + n, HELLO), **must),
        answer("L09b", "the same in Content-Length", ok(b"Content-Length : 3\r\n" + n, HELLO)),
        answer("L09c", "the same in Transfer-Encoding", ok(b"Transfer-Encoding : chunked\r\n" + n, HELLO)),
        answer("L10a", "answer in bare LF", ok(n, HELLO).replace(b"\r\n", b"\n"), **must),
        answer("L10b", "NUL in a value", ok(b"X: a\x00b\r\n" + n, HELLO)),
        answer("L10c", "bare CR in a value", ok(b"X: a\rSet-Cookie: b\r\n" + n, HELLO)),
        answer("L10d", "bare LF in a value", ok(b"X: a\nX-Injected: b\r\n" + n, HELLO), **must),
        answer("L10e", "a line without a colon", ok(b"NoColonHere\r\n" + n, HELLO)),
        answer("L11a", "204 with bytes behind it", b"HTTP/1.1 204 No Content\r\n\r\n" + poison, passed=(204, b"")),
        answer("L11b", "204 with a length and a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", passed=(204, b"")),
        answer("L11c", "304 with a body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", passed=(304, b"")),
        answer("L11d", "304 with a length, no body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", passed=(304, b"")),
        answer("L13a", "bytes behind the length", ok(n, HELLO + b"poison"), **must),
        answer("L13b", "an answer behind the length", ok(n, HELLO) + poison, **must),
        answer("L13c", "an answer behind the chunks", ok(chunked, whole) + poison, **must),
        answer("L14", "an answer a moment later", [ok(n, HELLO), poison], **must),
        answer("L14b", "a second copy a moment later", [ok(chunked, whole), poison], **must),
        answer("L15a", "103 first", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(n, HELLO), **must),
        answer("L15b", "100 first", b"HTTP/1.1 100 Continue\r\n\r\n" + ok(n, HELLO), **must),
        answer("L15c", "1,000 times 100", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + ok(n, HELLO), **must),
        answer("L15d", "100 with a body", b"HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\npoison" + ok(n, HELLO)),
        answer("L17a", "another protocol", b"SSH-2.0-x\r\n", "close"),
        answer("L17b", "an alert of TLS", b"\x15\x03\x01\x00\x02\x02\x46", "close"),
        answer("L17c", "nothing, on a new connection", b"", "close", line="new"),
        answer("L17d", "a head that ends early", ok(n, HELLO)[:60], "close"),
        answer("L18a", "10,000 fields", ok(b"X: y\r\n" * 10000 + n, HELLO)),
        answer("L18b", "a field of 1 MiB", ok(b"X: " + b"a" * (1 << 20) + b"\r\n" + n, HELLO)),
        # A kept connection is closed as the request comes. RFC 9110 section 9.2.2 lets nobody repeat a POST who does not know
        # what it does; a chat request changes nothing at its backend, so once more is right here, and a refusal is, too.
        answer("L28", "nothing, on a kept connection", ok(n, HELLO), line="kept", asks=2, **must),
        answer("L20", "Connection: close", ok(b"Connection: close\r\n" + n, HELLO), "close", **must),
        answer("L21", "a field named by Connection", ok(b"Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\n" + n, HELLO), drops=("x-secret", "keep-alive"), **must),
    ]
    for mark, value in zip("abcdefg", (b"abc", b"-1", b"+15", b"", b"18446744073709551616", b"0xf", b"15 15")):
        cases.append(answer("L03" + mark, f"length {_text(value)}", ok(b"Content-Length: " + value + b"\r\n", HELLO)))
    for mark, start in zip("efghi", (b"HTTP/1.1 99 X", b"HTTP/1.1 1000 X", b"HTTP/1.1 000 X", b"HTTP/2.0 200 OK", b"HTTP/1.1  200 OK")):
        cases.append(answer("L17" + mark, start.decode(), ok(n, HELLO).replace(b"HTTP/1.1 200 OK", start)))
    sizes = (b"-1", b"+f", b"0xf", b"f ;x", b"10000000" + b"0000000f", b"f\rX", b"")
    for mark, size in zip("abcdefg", sizes):
        cases.append(answer("L06s" + mark, f"chunk size {_text(size)}", ok(chunked, size + b"\r\n" + HELLO + b"\r\n0\r\n\r\n"), "close", look=_as_chunks, passed=hello))
    return cases


def _as_chunks(seen):
    """A size that is none: a whole answer with its text is a guess, which is lax."""
    if any(one.status == 200 and one.whole for one in seen.talk.final()):
        yield "lax", "a chunk size that is none is taken for one"


def everything() -> list[Case]:
    cases = lines() + targets() + lengths() + codings() + chunks() + manners() + answers()
    repeated = [case.id for case in cases if sum(other.id == case.id for other in cases) > 1]
    assert not repeated, repeated
    return cases
