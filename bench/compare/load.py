"""One window of load: what is asked, by how many connections, and what the probe and the cores say about it."""

import json
import os
import subprocess
import time
from dataclasses import dataclass

import machine
from peers import MODEL, Peer
from servers import Server

EVENTS = 64
#: The usual pace of an inference server on a busy GPU.
PACE_MS = 5
MESSAGES = [{"role": "user", "content": "hello"}]
JSON_BODY = json.dumps({"model": MODEL, "messages": MESSAGES, "max_tokens": EVENTS})
STREAM_BODY = json.dumps({"model": MODEL, "stream": True, "messages": MESSAGES, "max_tokens": EVENTS})


@dataclass(frozen=True)
class Shape:
    """One kind of request at one number of connections."""

    name: str
    kind: str  # json | burst | paced
    connections: int
    pace_ms: int = 0
    #: Each connection new, one exchange each; the window ends with the last.
    once: bool = False
    ramp_ms: int = 0
    events: int = EVENTS

    @property
    def unit(self) -> str:
        return "request" if self.kind == "json" else "event"


@dataclass(frozen=True)
class Truth:
    """What the backend answers, by asking it directly: the probe compares every answer with this."""

    json_bytes: tuple[int, int]
    events: int


@dataclass(frozen=True)
class Arrangement:
    """Who runs where. `load_cores` carry the backend, the probe and this tool."""

    probe: str
    gateway_cores: list[int]
    load_cores: list[int]
    seconds: float
    warmup: float
    #: Share of one core used by others above which a window is noisy.
    quiet: float


def window(shape: Shape, target: str, peer: Peer | None, server: Server | None, backend: Server, truth, at: Arrangement,
           seconds: float | None = None, status: bool = False) -> dict:
    """Runs one window. `ok` is false, with a `reason`, after any failure: such a window has no figures."""
    gateway_pids = server.pids() if server else []
    load_pids = backend.pids() + [os.getpid()]
    watch = ["/proc/stat", "/proc/self/stat"] + [f"/proc/{pid}/stat" for pid in gateway_pids + load_pids]
    watch += [f"/proc/{pid}/status" for pid in gateway_pids] if status else []
    argv = [at.probe, "json" if shape.kind == "json" else "stream", "--target", target]
    argv += ["--connections", str(shape.connections), "--seconds", str(seconds or at.seconds)]
    argv += ["--warmup", str(at.warmup), "--ramp-ms", str(shape.ramp_ms)]
    argv += ["--stall-ms", str(peer.stall_ms if peer else 5_000), "--path", peer.path if peer else "/v1/chat/completions"]
    argv += ["--body", JSON_BODY if shape.kind == "json" else STREAM_BODY]
    for header in (peer.headers if peer else []):
        argv += ["--header", header]
    if shape.kind != "json":
        argv += ["--header", f"x-sim-events: {shape.events}", "--header", f"x-sim-pace-ms: {shape.pace_ms}"]
        argv += ["--events", str(truth.events)] if truth else []
    elif truth and (peer is None or peer.exact):
        argv += ["--bytes", "{}-{}".format(*truth.json_bytes)]
    argv += ["--once"] if shape.once else []
    for path in watch:
        argv += ["--watch", path]
    limit = (seconds or at.seconds) + at.warmup + 90
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit)
        result = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"ok": False, "reason": "the probe hung"}
    except json.JSONDecodeError:
        return {"ok": False, "reason": f"the probe failed: {done.stderr.strip()[-200:]}"}
    return _judge(result, shape, server, gateway_pids, load_pids, at)


def _judge(result: dict, shape: Shape, server, gateway_pids, load_pids, at: Arrangement) -> dict:
    before, after, span = result.pop("before"), result.pop("after"), result["window_s"]
    result["ok"] = result["failed"] == 0 and result["completed"] > 0 and span > 0
    if result["failed"]:
        result["reason"] = "failures: " + ", ".join(f"{count} {what}" for what, count in result["failures"].items())
    elif not result["ok"]:
        result["reason"] = "nothing completed"
    if span <= 0 or not before:
        return result
    if server and (not server.alive() or server.pids() != gateway_pids):
        result |= {"ok": False, "reason": "its processes changed inside the window"}

    def used(pids):
        paths = [f"/proc/{pid}/stat" for pid in pids]
        return sum(machine.cpu_s(after.get(path)) - machine.cpu_s(before.get(path)) for path in paths)

    def others(cores, own):
        """Cores' worth of time that neither idled nor was ours; ticks make it a little below zero at times."""
        idle = machine.idle_s(after["/proc/stat"], cores) - machine.idle_s(before["/proc/stat"], cores)
        return (span * len(cores) - idle - own) / span

    gateway = used(gateway_pids)
    probe = machine.cpu_s(after["/proc/self/stat"]) - machine.cpu_s(before["/proc/self/stat"])
    load = used(load_pids) + probe
    cores = at.gateway_cores + at.load_cores
    stolen = machine.stolen_s(after["/proc/stat"], cores) - machine.stolen_s(before["/proc/stat"], cores)
    units = result["completed"] if shape.unit == "request" else result["events"]
    result |= {
        "unit": shape.unit,
        "per_s": units / span,
        "completed_per_s": result["completed"] / span,
        "gateway_cpu_s": gateway,
        "gateway_core": gateway / span,
        "load_core": load / span,
        "others_gateway": others(at.gateway_cores, gateway),
        "others_load": others(at.load_cores, load),
        "stolen": stolen / span,
        "rss_kib": sum(machine.rss_kib(text) for path, text in after.items() if path.endswith("/status")),
    }
    if server and units:
        result["cpu_us"] = gateway * 1e6 / units
        result["completed_cpu_us"] = gateway * 1e6 / result["completed"] if result["completed"] else None
    # Asked directly, nothing of ours runs on the gateway's core.
    result["noisy"] = max(result["others_gateway"] if server else 0, result["others_load"]) > at.quiet
    return result


def learn(target: str, backend: Server, at: Arrangement) -> Truth:
    """Asks the backend itself what a whole answer is."""
    plain = window(Shape("truth", "json", 1), target, None, None, backend, None, at, seconds=0.5)
    burst = window(Shape("truth", "burst", 1), target, None, None, backend, None, at, seconds=0.5)
    for result in (plain, burst):
        if not result["ok"]:
            raise RuntimeError(f"the backend itself fails: {result['reason']}")
    least, most = plain["body_bytes"]
    if least != most:  # ids or times of changing length: leave them a little room
        least, most = least - 32, most + 32
    fewest, events = burst["event_count"]
    if fewest != events or events < EVENTS:
        raise RuntimeError(f"the backend sends {fewest} to {events} events where {EVENTS} and a finish were asked for")
    return Truth((least, most), events)


def suits(peer: Peer, server: Server, backend: Server, truth: Truth, at: Arrangement) -> dict[str, str]:
    """Kinds of request this peer cannot be measured with, and why. Tried before anything is counted."""

    def ask(shape: Shape, seconds: float) -> dict:
        """One exchange. Some listen before they know their backend, or load half an interpreter with the first."""
        deadline = time.monotonic() + seconds
        while True:
            known = truth if shape.kind == "json" else None
            result = window(shape, peer.address, peer, server, backend, known, at, seconds=peer.stall_ms / 1_000)
            if result["ok"] or time.monotonic() > deadline or not server.alive():
                return result
            time.sleep(0.5)

    plain = ask(Shape("trial", "json", 1, once=True), peer.start_s)
    if not plain["ok"]:
        return {"json": plain["reason"]}
    few = Shape("trial", "burst", 1, once=True, events=8)
    stream = ask(few, 5)
    if not stream["ok"]:
        return {"burst": stream["reason"], "paced": stream["reason"]}
    if stream["event_count"][0] < truth.events:
        return {}
    # The headers did not arrive: it gets the backend's own pace, whichever that is.
    paced = ask(few, 0).get("latency_us", {}).get("p50", 0) > (EVENTS - 1) * PACE_MS * 1_000 * 0.9
    return {"burst" if paced else "paced": "does not pass the x-sim headers on"}
