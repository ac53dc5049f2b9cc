"""Clients that misbehave, one after another, drawn from a seed."""

import json
import random
import socket
import struct
import threading
import time

PATIENCE_SECONDS = 20


class Rude:
    """Runs until told that it is over, and keeps count of what it did and what came of it."""

    def __init__(self, port: int, key: str, seed: int, over: threading.Event):
        self.port, self.key, self.over = port, key, over
        self.chance = random.Random(seed)
        self.counts: dict[str, int] = {}
        self.problems: list[str] = []

    def run(self):
        manners = [
            self.noise,
            self.half_a_head,
            self.half_a_body,
            self.wrong_key,
            self.huge_head,
            self.two_lengths,
            self.bad_json,
            self.leave_early,
            self.leave_in_a_stream,
            self.deaf,
            self.slow_head,
            self.half_close,
        ]
        while not self.over.wait(self.chance.uniform(0.02, 0.2)):
            manner = self.chance.choice(manners)
            name = manner.__name__.replace("_", " ")
            self.counts[name] = self.counts.get(name, 0) + 1
            try:
                manner()
            except TimeoutError:
                self.problems.append(f"a client with {name} was left waiting for {PATIENCE_SECONDS} s")
            except ConnectionRefusedError:
                self.problems.append(f"a client with {name} was refused a connection")
            except OSError:
                pass  # closed on us, as such clients deserve

    def said(self) -> str:
        total, ways = sum(self.counts.values()), len(self.counts)
        return f"{total} clients misbehaved in {ways} ways, {len(self.problems)} of them were not handled"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)

    def request(self, body: bytes, more: str = "", key: str | None = None) -> bytes:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: soak\r\nAuthorization: Bearer {key or self.key}\r\n"
        return f"{head}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def chat(self, tokens: int) -> bytes:
        messages = [{"role": "user", "content": "x"}]
        return json.dumps({"model": "clean", "stream": True, "max_tokens": tokens, "messages": messages}).encode()

    def expect(self, client: socket.socket, *codes: int):
        """Reads to the end of the connection; the status has to be one of these."""
        answer = b""
        while part := client.recv(65536):
            answer += part
        status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
        if status not in codes:
            self.problems.append(f"a rude request was answered {status or answer[:40]!r}, not one of {codes}")

    def noise(self):
        with self.connect() as client:
            client.sendall(self.chance.randbytes(self.chance.randint(1, 3000)) + b"\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass

    def half_a_head(self):
        with self.connect() as client:
            whole = self.request(b"{}")
            client.sendall(whole[: self.chance.randint(1, whole.index(b"\r\n\r\n"))])

    def half_a_body(self):
        with self.connect() as client:
            client.sendall(self.request(self.chat(5))[:-7])
            self.reset(client, self.chance.random() < 0.5)

    def wrong_key(self):
        with self.connect() as client:
            client.sendall(self.request(self.chat(5), more="Connection: close\r\n", key="rw-nobody"))
            self.expect(client, 401, 429)

    def huge_head(self):
        with self.connect() as client:
            client.sendall(self.request(b"{}", more="X-Pad: " + "x" * 70_000 + "\r\n"))
            self.expect(client, 431)

    def two_lengths(self):
        with self.connect() as client:
            client.sendall(self.request(b"{}", more="Content-Length: 9\r\n"))
            self.expect(client, 400)

    def bad_json(self):
        with self.connect() as client:
            client.sendall(self.request(b'{"model": "clean", "messages": [', more="Connection: close\r\n"))
            self.expect(client, 400, 429)

    def leave_early(self):
        with self.connect() as client:
            client.sendall(self.request(self.chat(50)))
            self.reset(client, self.chance.random() < 0.5)

    def leave_in_a_stream(self):
        with self.connect() as client:
            client.sendall(self.request(self.chat(500)))
            for _ in range(self.chance.randint(1, 8)):
                client.recv(200)
            self.reset(client, self.chance.random() < 0.5)

    def deaf(self):
        """Asks for a long stream and reads nothing of it for a while."""
        with self.connect() as client:
            client.sendall(self.request(self.chat(200)))
            time.sleep(1)
            self.reset(client, True)

    def slow_head(self):
        """A byte now and then: ended by the gateway's bound on a head, or by the end of patience here."""
        with self.connect() as client:
            for byte in self.request(b"{}")[: self.chance.randint(1, 20)]:
                client.sendall(bytes([byte]))
                time.sleep(0.05)

    def half_close(self):
        with self.connect() as client:
            client.sendall(self.request(self.chat(50)))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass

    def reset(self, client: socket.socket, hard: bool):
        """Closes with RST rather than FIN if `hard`."""
        if hard:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
