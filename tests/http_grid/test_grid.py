"""The grid can fail: its reader, its judge, and the whole of it against relays that are wrong on purpose."""

import select
import socket
import threading
import unittest

import grid
import cases as rows
import wire
from cases import FRAMED, HELLO, P
from ends import Origin, Talk, completion, plain
from verdict import Seen, verdict

CASES = {case.id: case for case in rows.everything()}
OK = plain(completion("n1"))
REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def request(nonce="n1", framed=FRAMED):
    return P.replace(b"@N", nonce.encode()) + framed


def grade(id, got, origin=(), end="fin", behind=(), **more):
    """Of a case in which the client was sent `got`, and the origin these connections."""
    case = CASES[id]
    sent = b"".join(case.parts).replace(b"@N", b"n1")
    return verdict(case, Seen("n1", Talk(sent, got, end, False), list(origin), list(behind), **more))[0]


class Reader(unittest.TestCase):
    def test_what_two_readers_take_differently_is_a_flaw(self):
        good = request()
        for old, new in [
            (b"Content-Length: 27", b"Content-Length: 27\r\nTransfer-Encoding: chunked"),
            (b"Content-Length: 27", b"Content-Length: 27\r\nContent-Length: 27"),
            (b"Content-Length: 27", b"Content-Length: +27"),
            (b"Content-Length: 27", b"Content-Length : 27"),
            (b"Content-Length: 27", b"Transfer-Encoding: xchunked"),
            (b"Host: gw.test\r\n", b""),
            (b"Host: gw.test\r\n", b"Host: gw.test\n"),
            (b"Host: gw.test\r\n", b"Host: gw.test\r\n folded\r\n"),
            (b"n1", b"n\x001"),
            (b"n1", b"n\r1"),
            (b" HTTP", b"  HTTP"),
            (b"1.1\r\n", b"1.2\r\n"),
        ]:
            self.assertIsNotNone(wire.requests(good.replace(old, new, 1)).flaw, new)
        reading = wire.requests(good + good)
        self.assertEqual((len(reading.whole), reading.flaw), (2, None))

    def test_chunks_are_exact(self):
        head = P + b"Transfer-Encoding: chunked\r\n\r\n"
        reading = wire.requests(head + b'3;a="x;y"\r\nabc\r\n0\r\nX: y\r\n\r\nGET')
        self.assertEqual((reading.whole[0].body, reading.rest), (b"abc", b"GET"))
        for bad in (b"3\nabc", b" 3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n", b"\r\n", b"0x3\r\n", b"3;\r\n", b"0\r\n\n", b"3\r\rX\r\n"):
            self.assertIsNotNone(wire.requests(head + bad).flaw, bad)
        for cut in range(len(head) + 1, len(head) + 19):
            reading = wire.requests((head + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n")[:cut])
            self.assertEqual((reading.flaw, reading.whole), (None, []), cut)


class Judge(unittest.TestCase):
    def test_a_clean_refusal_is_ok_and_other_refusals_are_lax(self):
        self.assertEqual(grade("E01a", REFUSED), "ok")
        self.assertEqual(grade("E01a", REFUSED, end="open"), "lax")
        self.assertEqual(grade("E01a", REFUSED.replace(b"400", b"500")), "lax")
        self.assertEqual(grade("E01a", b""), "lax")
        self.assertEqual(grade("D00", REFUSED), "lax")

    def test_accepted_is_lax_if_what_went_on_is_plain(self):
        self.assertEqual(grade("A02", OK, [request()]), "lax")
        self.assertEqual(grade("D00", OK, [request()], end="open"), "ok")

    def test_a_hidden_request_is_bad_wherever_it_shows(self):
        hidden = rows.EVIL
        self.assertEqual(grade("E01a", OK, [request() + hidden]), "BAD")
        self.assertEqual(grade("E01a", REFUSED, [hidden]), "BAD")
        self.assertEqual(grade("E01a", OK + OK, [request()]), "BAD")

    def test_ambiguous_bytes_at_the_origin_are_bad_even_if_the_client_was_refused(self):
        both = request(framed=b"Transfer-Encoding: chunked\r\n" + FRAMED)
        self.assertEqual(grade("E01a", REFUSED, [both]), "BAD")

    def test_a_changed_body_is_bad(self):
        self.assertEqual(grade("D00", OK, [request(framed=b"Content-Length: 2\r\n\r\n{}")]), "BAD")

    def test_silence_is_bad_and_so_is_a_dead_proxy(self):
        self.assertEqual(grade("D00", b"", [request()], end="open"), "BAD")
        self.assertEqual(grade("E01a", REFUSED, alive=False), "BAD")

    def test_the_next_client_gets_its_own_answer_or_it_is_bad(self):
        def behind(got, end="open"):
            return grade("D00", OK, [request()], behind=[("c2", Talk(b"", got, end, False))])

        self.assertEqual(behind(plain(completion("c2"))), "ok")
        self.assertEqual(behind(REFUSED), "lax")
        for wrong in (OK, plain(b"poison"), plain(completion("c2")) * 2, b""):
            self.assertEqual(behind(wrong), "BAD", wrong)

    def test_a_cut_answer_may_not_look_whole(self):
        head = b"HTTP/1.1 200 OK\r\n"
        cut = head + b"Content-Length: %d\r\n\r\n" % (len(HELLO) + 1) + HELLO
        self.assertEqual(grade("L07b", cut, [request()]), "ok")
        self.assertEqual(grade("L07b", REFUSED.replace(b"400", b"502"), [request()]), "ok")
        self.assertEqual(grade("L07b", plain(HELLO), [request()]), "BAD")
        self.assertEqual(grade("L07b", head + b"\r\n" + HELLO, [request()]), "BAD")
        self.assertEqual(grade("L07b", head + b"\r\n" + HELLO, [request()], end="reset"), "ok")

    def test_an_answer_is_passed_as_it_is_and_once(self):
        self.assertEqual(grade("L13b", plain(HELLO), [request()]), "ok")
        self.assertEqual(grade("L13b", plain(HELLO) + plain(b"poison"), [request()]), "BAD")
        self.assertEqual(grade("L13b", plain(HELLO[:-1]), [request()]), "BAD")
        self.assertEqual(grade("L17c", REFUSED.replace(b"400", b"502"), [request(), request()]), "lax")
        self.assertEqual(grade("H14", b"HTTP/1.1 101 X\r\n\r\n", [request()]), "BAD")


class Relay:
    """Takes one request by its Content-Length, whatever else it says, and one answer likewise, over one kept connection."""

    def __init__(self, backend: int):
        self.backend, self.held, self.lock, self.repeats = None, b"", threading.Lock(), 0
        self.address = ("127.0.0.1", backend)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, self.lock:
                self.serve(client)

    def serve(self, client):
        request, rest = self.message(client, b"")
        while request:
            answer = b""
            for _ in range(1 + self.repeats):
                answer = answer or self.ask(request + rest)  # what came along goes along
            if not answer:
                client.sendall(REFUSED.replace(b"400", b"502"))
                return
            client.sendall(answer)
            request, rest = self.message(client, b"")

    def ask(self, request):
        if self.backend and select.select([self.backend], [], [], 0)[0] and not self.backend.recv(1, socket.MSG_PEEK):
            self.drop()  # it was closed meanwhile
        self.backend = self.backend or socket.create_connection(self.address)
        self.backend.sendall(request)
        answer, self.held = self.message(self.backend, self.held)
        if not answer:
            self.drop()
        return answer

    def drop(self):
        self.backend.close()
        self.backend, self.held = None, b""

    @staticmethod
    def message(stream, held):
        """One message and what came behind it; nothing if the connection ended."""
        while True:
            head, found, body = held.partition(b"\r\n\r\n")
            if found:
                lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                size = len(head) + 4 + int(lengths[0] if lengths else 0)
                if len(held) >= size:
                    return held[:size], held[size:]
            some = stream.recv(1 << 16)
            if not some:
                return b"", b""
            held += some


class Whole(unittest.TestCase):
    def setUp(self):
        self.origin = Origin()
        self.relay = Relay(self.origin.port)
        self.addCleanup(self.origin.stop)
        self.addCleanup(self.relay.listener.close)

    def grade(self, id):
        prober = grid.Prober(self.relay.port, self.origin)
        prober.recover()
        return verdict(CASES[id], prober.one(CASES[id]))

    def test_a_plain_request_is_ok_through_a_plain_relay(self):
        self.assertEqual(self.grade("D00"), ("ok", []))

    def test_a_relay_that_passes_both_framings_is_found(self):
        found, texts = self.grade("E01a")
        self.assertEqual(found, "BAD")
        self.assertTrue(any("codings" in text for text in texts), texts)

    def test_a_relay_that_keeps_what_is_behind_an_answer_is_found(self):
        found, texts = self.grade("L13b")
        self.assertEqual(found, "BAD")
        self.assertTrue(any("next client" in text for text in texts), texts)

    def test_a_request_may_come_twice_only_where_a_kept_connection_was_closed(self):
        for repeats, new, kept in ((0, "ok", "ok"), (1, "lax", "ok"), (2, "lax", "ok")):
            self.relay.repeats = repeats
            self.assertEqual((self.grade("L17c")[0], self.grade("L28")[0]), (new, kept), repeats)
        self.assertEqual(grade("L28", plain(HELLO), [request()] * 3), "lax")

    def test_the_worse_rows_are_those_where_another_is_better(self):
        ours, other = grid.Column("ringway"), grid.Column("other")
        ours.grades = {"a": "ok", "b": "lax", "c": "lax", "d": "BAD"}
        other.grades = {"a": "lax", "b": "ok", "c": "lax", "d": "lax"}
        absent = grid.Column("absent", absent="not installed")
        self.assertEqual(grid.worse([other, absent, ours], "ringway"), ["b", "d"])


if __name__ == "__main__":
    unittest.main()
