"""The grid: every edge case through every proxy, each in front of the same origin, and one grade a cell.

`run` asks, `table` prints. README.md explains the grades, verdict.py decides them.
"""

import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

# How a proxy is installed, started and stopped is that of the comparison.
sys.path.append(str(Path(__file__).resolve().parents[2] / "bench/compare"))

import cases as rows
import servers
from ends import QUIET_S, Client, Origin, Talk, completion, shown
from verdict import GRADES, Seen, verdict
from peers import Peer, Place

#: The clients that come behind a case, and how long a proxy may refuse them before it counts as gone.
NEXT, RECOVER_S = 2, 30.0


@dataclass
class Column:
    """One proxy: why it is not here, or what it did."""

    name: str
    version: str = ""
    absent: str = ""
    grades: dict[str, str] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)


def run(peers: list[Peer], cases: list[rows.Case], folder: Path) -> list[Column]:
    """All proxies side by side, each with its own origin, each case after the other."""
    columns = [Column(peer.name) for peer in peers]
    threads = [
        threading.Thread(target=_column, args=(peer, cases, folder / peer.name, column), daemon=True)
        for peer, column in zip(peers, columns)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return columns


def _column(peer: Peer, cases, folder: Path, column: Column) -> None:
    if peer.source.path() is None:
        column.absent = getattr(peer.source, "command", f"scripts/http-grid --install {peer.name}")
        return
    origin, server = Origin(), None
    try:
        column.version = peer.version()
        peer.port = free_port()
        place = Place(folder, sorted(os.sched_getaffinity(0)), f"127.0.0.1:{origin.port}")
        server = servers.start(peer, place)
        prober = Prober(peer.port, origin, lambda: server.alive())
        prober.recover()
        for case in cases:
            seen = prober.one(case)
            column.seen[case.id] = seen
            column.grades[case.id], column.texts[case.id] = verdict(case, seen)
            try:
                prober.recover()
            except (OSError, RuntimeError) as error:
                column.grades[case.id] = "BAD"
                column.texts[case.id].append(f"BAD: {error}; {server.log_end()}")
                server.stop()
                server = servers.start(peer, place)
                prober.recover()
    except (OSError, RuntimeError) as error:
        column.absent = str(error)
    finally:
        if server:
            server.stop()
        origin.stop()


class Prober:
    """Sends cases to one proxy, one after the other, and ordinary clients behind each."""

    def __init__(self, port: int, origin: Origin, alive=lambda: True):
        self.port, self.origin, self.alive, self.count = port, origin, alive, 0

    def one(self, case: rows.Case) -> Seen:
        nonce = self._nonce("n")
        self.origin.expect(nonce, case.script)
        talk = self._attack(case, nonce)
        behind = []
        try:
            behind += [self._client() for _ in range(NEXT)]
        except OSError:
            pass  # nobody is there: `alive`, or `recover` behind this, says so
        return Seen(nonce, talk, self.origin.seen(), behind, self.alive())

    def _attack(self, case, nonce: str) -> Talk:
        client = Client(self.port)
        for index, part in enumerate(case.parts):
            if index:
                client.read(1.0)
            client.send(part.replace(b"@N", nonce.encode()))
        if case.fin:
            client.half_close()
        asked = case.want in ("pass", "answer")
        # Whoever waits for more bytes than came gets to know that there are none.
        client.listen(case.answers + case.extra if asked else 1, 5.0 if asked or case.fin else 1.5)
        if not asked and not case.fin and client.end == "open" and not client.talk().final():
            client.pressed = True
            client.half_close()
            client.listen(1, 5.0)
        client.read(QUIET_S)
        talk = client.talk()
        client.close()
        return talk

    def _client(self) -> tuple[str, Talk]:
        nonce = self._nonce("c")
        client = Client(self.port)
        client.send(rows.P.replace(b"@N", nonce.encode()) + rows.FRAMED)
        client.listen(1)
        talk = client.talk()
        client.close()
        return nonce, talk

    def recover(self) -> None:
        """Until an ordinary client is served, so that no case is judged by the one before it."""
        deadline = time.monotonic() + RECOVER_S
        while True:
            nonce, talk = self._client()
            finals = talk.final()
            if len(finals) == 1 and finals[0].status == 200 and finals[0].body == completion(nonce):
                return
            if time.monotonic() > deadline or not self.alive():
                raise RuntimeError(f"serves nobody any more: {talk.got[:200]!r}, connection {talk.end}")
            time.sleep(0.1)

    def _nonce(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count:06d}{os.getpid():08d}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as trial:
        return trial.getsockname()[1]


def worse(columns: list[Column], ours: str) -> list[str]:
    """Ids of the rows in which `ours` has a worse grade than the best of the others."""
    own = next(column for column in columns if column.name == ours)
    others = [column for column in columns if column.name != ours and not column.absent]
    return [
        id
        for id, grade in own.grades.items()
        if others and GRADES.index(grade) > min(GRADES.index(other.grades[id]) for other in others)
    ]


def table(columns: list[Column], cases) -> str:
    """Versions, the grid, and the counts."""
    wide = max(len(column.name) for column in columns) + 2
    lines = [f"{column.name}: {column.version or 'not here: ' + column.absent}" for column in columns]
    lines += ["", f"{'case':7}{'':50}" + "".join(column.name.ljust(wide) for column in columns)]
    for case in cases:
        cells = "".join(column.grades.get(case.id, "-").ljust(wide) for column in columns)
        lines.append(f"{case.id:7}{case.title[:48]:50}{cells}".rstrip())
    lines.append("")
    for grade in GRADES:
        counts = (str(sum(one == grade for one in column.grades.values())) if column.grades else "-" for column in columns)
        lines.append(f"{grade:57}" + "".join(count.ljust(wide) for count in counts).rstrip())
    return "\n".join(lines)


def why(column: Column, case: rows.Case) -> str:
    """What was seen of one case, and what was said of it."""
    if case.id not in column.seen:
        return f"== {case.id} at {column.name}: not here: {column.absent}"
    seen = column.seen[case.id]
    parts = [f"== {case.id} at {column.name}: {column.grades[case.id]}; {case.title} (wanted: {case.want})"]
    parts += column.texts[case.id]
    parts += ["-- client sent", shown(seen.talk.sent), f"-- client got, connection {seen.talk.end}", shown(seen.talk.got)]
    for data in seen.origin:
        parts += ["-- a connection to the origin carried", shown(data)]
    return "\n".join(parts)


def main(peers: list[Peer], ours: str, wanted: list[str] | None, explained: list[str], folder: Path, record: str | None) -> int:
    cases = rows.everything()
    known = {case.id for case in cases}
    if unknown := [id for id in [*(wanted or []), *explained] if id not in known]:
        raise SystemExit(f"no case is called {', '.join(unknown)}")
    chosen = set(wanted or []) | set(explained)
    cases = [case for case in cases if not chosen or case.id in chosen]
    print(f"{len(cases)} cases through {len(peers)} proxies", file=sys.stderr)
    columns = run(peers, cases, folder)
    for case in cases:
        if case.id in explained:
            print("\n".join(why(column, case) for column in columns))
    print(table(columns, cases))
    if record:
        told = {column.name: {"version": column.version, "absent": column.absent, "grades": column.grades, "why": column.texts} for column in columns}
        Path(record).write_text(json.dumps(told, indent=1))
    own = next(column for column in columns if column.name == ours)
    if own.absent:
        print(f"\n{ours} is not here: {own.absent}")
        return 1
    for case in cases:
        if own.grades[case.id] != "ok":
            print(f"{ours} {case.id} {own.grades[case.id]}: {'; '.join(own.texts[case.id])}")
    if len(columns) == 1:
        bad = [id for id, grade in own.grades.items() if grade != "ok"]
        print(f"\nrows that are not ok: {len(bad)}" + "".join(f" {id}" for id in bad))
    else:
        bad = worse(columns, ours)
        print(f"\nrows where Ringway is worse than the best peer: {len(bad)}" + "".join(f" {id}" for id in bad))
    return 1 if bad else 0
