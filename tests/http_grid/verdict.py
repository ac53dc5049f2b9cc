"""How did it go? One grade for one case and one proxy, from the bytes seen at both sides and nothing else.

`ok`: refused cleanly (a right status, and the connection closed), or passed on so that everybody reads the same.
`lax`: something else than was asked for, but nobody can be misled by what went on.
`BAD`: a request or an answer that two readers take differently, a request that was hidden in another, an answer that
was cut and looks whole, bytes of somebody else, a hang, a crash.
"""

from dataclasses import dataclass, field

import wire
from cases import Case
from ends import Talk

GRADES = ("ok", "lax", "BAD")


@dataclass
class Seen:
    """All that was observed of one case at one proxy."""

    nonce: str
    talk: Talk
    #: What each connection to the origin carried, from the start of the case until the next clients were served.
    origin: list[bytes]
    #: Of the clients that came next, in order: nonce and talk; those that only found out when it served again are not here.
    next: list[tuple[str, Talk]]
    alive: bool = True
    readings: list[wire.Reading] = field(default_factory=list)

    def __post_init__(self):
        self.readings = [wire.requests(data) for data in self.origin]

    @property
    def requests(self) -> list[wire.Message]:
        """Whole requests under the nonce of the case."""
        return [one for one in self.arrived() if one.one("x-nonce") == self.nonce]

    def arrived(self) -> list[wire.Message]:
        return [one for reading in self.readings for one in reading.whole]


def verdict(case: Case, seen: Seen) -> tuple[str, list[str]]:
    """The worst of all complaints, and their texts."""
    complaints = [*_always(case, seen), *_fields(case, seen), *(case.look(seen) if case.look else ())]
    judge = {"refuse": _refused, "pass": _passed, "either": _either, "answer": _answered}[case.want]
    complaints += judge(case, seen)
    grade = max((grade for grade, _ in complaints), key=GRADES.index, default="ok")
    return grade, [f"{grade}: {text}" for grade, text in dict.fromkeys(complaints)]


def _always(case: Case, seen: Seen):
    """What may never happen, whatever was sent."""
    if not seen.alive:
        yield "BAD", "the proxy is gone"
    for reading in seen.readings:
        if reading.flaw:
            yield "BAD", f"origin: {reading.flaw}"
    expected = {seen.nonce, *case.also, *(nonce for nonce, _ in seen.next)}
    for request in seen.arrived():
        if (nonce := request.one("x-nonce")) not in expected:
            yield "BAD", f"origin: a request that was hidden: nonce {nonce!r}, {b' '.join(request.start)!r}"
    for note in dict.fromkeys(note for request in seen.requests for note in request.notes):
        yield "lax", f"origin: {note}"
    yield from _client(case, seen)
    yield from _next(seen)


def _client(case: Case, seen: Seen):
    """What the client of the case was told."""
    reading = seen.talk.reading()
    if reading.flaw and not seen.talk.got.startswith(b"HTTP/") and b"HTTP/1" not in seen.talk.sent.split(b"\n")[0]:
        yield "lax", "client: an answer without a head, as HTTP/0.9 has it"
    elif reading.flaw:
        yield "BAD", f"client: {reading.flaw}"
    elif reading.rest and not case.cut:
        yield "lax", f"client: an answer that ends in its head: {reading.rest[:60]!r}"
    if b"poison" in seen.talk.got and not _tunnel(seen):
        yield "BAD", "client: bytes that belong to no answer"
    for note in dict.fromkeys(note for one in reading.messages for note in one.notes):
        yield "lax", f"client: {note}"
    most = case.answers + case.extra
    finals = seen.talk.final()
    for one in finals[most:]:
        yield ("lax" if one.status >= 400 else "BAD"), f"client: answer {one.status} to something that is no request"
    if case.extra and any(one.status < 400 for one in finals[case.answers :]):
        yield "lax", "client: what is behind the request was answered"
    if case.want != "answer" and any(not one.whole for one in finals):
        yield "lax", "client: an answer that is not whole"


def _tunnel(seen: Seen) -> bool:
    """Whether client, proxy and origin all agreed on another protocol."""
    asked = [request for request in seen.requests if request.all("upgrade") and "upgrade" in request.one("connection").lower()]
    return b"\r\nUpgrade: " in seen.talk.sent and bool(asked)


def _next(seen: Seen):
    """Whether the clients behind it got what is theirs."""
    for nonce, talk in seen.next:
        reading, finals = talk.reading(), talk.final()
        if b"poison" in talk.got or b"evil" in talk.got or seen.nonce.encode() in talk.got:
            yield "BAD", "next client: bytes of somebody else"
        elif reading.flaw or len(finals) > 1:
            yield "BAD", f"next client: {reading.flaw or 'two answers to one request'}"
        elif not finals:
            yield ("BAD" if talk.end == "open" else "lax"), f"next client: no answer, connection {talk.end}"
        elif finals[0].status == 200 and nonce.encode() not in finals[0].body:
            yield "BAD", f"next client: an answer that is not its own: {finals[0].body[:60]!r}"
        elif finals[0].status != 200:
            yield "lax", f"next client: {finals[0].status}"


def _fields(case: Case, seen: Seen):
    """Fields for one hop that went on."""
    answers = seen.talk.final() if case.want == "answer" else []
    for name in case.drops:
        for side, messages in (("origin", seen.requests), ("client", answers)):
            values = [value for one in messages for value in one.all(name) if value.lower() != b"keep-alive"]
            if values and not (case.want == "answer" and side == "origin"):
                yield "lax", f"{side}: {name}: {values[0].decode('latin-1')} went on"


def _silence(case: Case, seen: Seen):
    """No final answer at all: closed, or did it hang?"""
    if seen.talk.reading().flaw:
        return  # it did get something, which is worse
    if seen.talk.end == "open":
        yield "BAD", "client: no answer and no end, its own end included"
    elif not case.silent:
        yield "lax", "client: no answer" + (" until it closed its side" if seen.talk.pressed else ", only a close")


def _refused(case: Case, seen: Seen):
    finals = seen.talk.final()
    if seen.requests:
        yield "lax", f"accepted, with a body of {len(seen.requests[0].body)} bytes"
        if not finals:
            yield from _silence(case, seen)
        return
    if not finals:
        yield from _silence(case, seen)
        return
    status = finals[0].status
    if status < 400:
        yield "lax", f"answered {status}, though nothing reached the origin"
    elif status not in case.statuses:
        yield "lax", f"refused with {status}"
    if case.closes and seen.talk.end == "open":
        yield "lax", f"{status}, and the connection stays open"


def _passed(case: Case, seen: Seen):
    finals = seen.talk.final()
    if not finals:
        yield from _silence(Case(case.id, case.title, case.want, []), seen)
    elif finals[0].status == 101:
        yield "lax", "the proxy itself speaks another protocol"
    elif finals[0].status != 200:
        yield "lax", f"refused with {finals[0].status}, though it is right"
    elif not seen.requests:
        yield "lax", "answered, though nothing reached the origin"
    yield from _forwarded(case, seen)
    for one in finals[: case.answers]:
        if one.status == 200 and not any(name.encode() in one.body for name in (seen.nonce, *case.also)):
            yield "BAD", f"client: an answer that is not its own: {one.body[:60]!r}"
    if finals and finals[0].status == 200 and len(finals) < case.answers:
        yield "lax", f"client: {len(finals)} answers to {case.answers} requests"


def _forwarded(case: Case, seen: Seen):
    if len(seen.requests) > 1:
        yield "BAD", f"origin: the request came {len(seen.requests)} times"
    for request in seen.requests:
        if case.body is not None and request.body != case.body:
            yield "BAD", f"origin: another body: {request.body[:60]!r}"


def _either(case: Case, seen: Seen):
    yield from _forwarded(case, seen) if seen.requests else _refused(case, seen)
    if seen.requests and not seen.talk.final():
        yield from _silence(case, seen)


def _answered(case: Case, seen: Seen):
    """What became of an answer of the origin."""
    if len(seen.requests) > case.asks:
        yield "lax", f"origin: asked {len(seen.requests)} times for one request"
    if not seen.requests:
        yield "lax", "origin: was not asked"
    finals = seen.talk.final()
    if not finals:
        if seen.talk.end == "open" and not seen.talk.reading().flaw:
            yield "BAD", "client: no answer and no end"
        elif not case.cut and not seen.talk.reading().messages:
            yield "lax", "client: no answer, only a close"
        return
    got = finals[0]
    if got.status == 101:
        yield ("lax" if _tunnel(seen) else "BAD"), "client: a tunnel"
    elif got.status in (500, 502, 503, 504):
        if case.passed and case.id.startswith("L00"):
            yield "lax", f"{got.status} for a right answer"
    elif case.cut:
        if got.whole:
            yield "BAD", f"client: a cut answer looks whole ({got.framing})"
        elif seen.talk.end == "open":
            yield "BAD", "client: a cut answer that never ends"
    elif case.passed is None:
        yield "lax", f"client: {got.status} with {len(got.body)} bytes, passed on though it says nothing for sure"
        if not got.whole and seen.talk.end == "open":
            yield "BAD", "client: an answer that never ends"
    elif not got.whole:
        yield ("BAD" if seen.talk.end == "open" else "lax"), f"client: not whole, connection {seen.talk.end}"
    elif (got.status, got.body) != case.passed:
        yield "BAD", f"client: {got.status} {got.body[:60]!r}, not what the origin said"
