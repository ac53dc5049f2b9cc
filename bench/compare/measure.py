"""The stages: interleaved rounds, memory, streams sustained, the connection ladder, and scaling over cores."""

import dataclasses
import statistics
import sys
import time
from pathlib import Path

import load
import machine
import servers
from load import Arrangement, Shape, Truth
from peers import Peer, Place, fds

DIRECT = "direct"

#: What a round measures. One connection shows what a gateway adds; eight and 64 what a request costs; a burst is
#: one read of 64 events; paced events cost a read and a write each.
SHAPES = [
    Shape("json@1", "json", 1),
    Shape("json@8", "json", 8),
    Shape("json@64", "json", 64),
    Shape("first@1", "burst", 1),
    Shape("burst@64", "burst", 64),
    Shape("paced@64", "paced", 64, pace_ms=load.PACE_MS, ramp_ms=300),
]


class Bench:
    """The peers of one run, started, and everything measured so far."""

    def __init__(self, peers: dict[str, Peer], backend: servers.Server, truth: Truth, at: Arrangement, folder: Path):
        self.peers, self.backend, self.truth, self.at, self.folder = peers, backend, truth, at, folder
        self.running: dict[str, servers.Server] = {}
        self.unfit: dict[str, dict[str, str]] = {}
        self.about: dict[str, dict] = {}

    def start(self, name: str) -> servers.Server:
        place = Place(self.folder / name, self.at.gateway_cores, self.backend.address)
        self.running[name] = servers.start(self.peers[name], place)
        return self.running[name]

    def stop(self, name: str) -> None:
        server = self.running.pop(name, None)
        if server:
            server.stop()

    def start_all(self) -> None:
        """Starts and tries every peer; one that cannot be measured is dropped with a line, not the run."""
        for name, peer in list(self.peers.items()):
            try:
                server = self.start(name)
                self.unfit[name] = load.suits(peer, server, self.backend, self.truth, self.at)
            except (RuntimeError, OSError) as error:
                say(f"{name}: skipped: {error}")
                self.peers.pop(name)
                self.stop(name)
                continue
            for kind, reason in self.unfit[name].items():
                say(f"{name}: no {kind} figures: {reason}")
            if "json" in self.unfit[name]:
                say(f"{name}: skipped, log: {server.log_end()}")
                self.peers.pop(name)
                self.stop(name)
                continue
            files = sorted((self.folder / name).glob("*.*"))
            self.about[name] = {
                "version": peer.version(),
                "driver": server.driver_lines() or [peer.driver],
                "commands": server.commands,
                "files": {file.name: file.read_text() for file in files if file.suffix not in (".log", ".pid")},
            }
            say(f"{name}: {self.about[name]['version']}")

    def window(self, name: str, shape: Shape, **options) -> dict:
        """One window through a peer, or straight to the backend."""
        peer, server = self.peers.get(name), self.running.get(name)
        target = peer.address if peer else self.backend.address
        return load.window(shape, target, peer, server, self.backend, self.truth, self.at, **options)

    def rounds(self, count: int, shapes: list[Shape]) -> list[dict]:
        """Each round, each shape, each peer in turn; the order moves on by one every round."""
        names = [DIRECT, *self.peers]
        results = []
        for number in range(count):
            for shape in shapes:
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    if shape.kind in self.unfit.get(name, {}):
                        continue
                    result = self.window(name, shape)
                    results.append({"round": number + 1, "shape": shape.name, "peer": name, **result})
                    say(f"round {number + 1}/{count} {shape.name:9} {name:14} {brief(result)}")
        return results

    def memory(self, idle_s: float, streams: int) -> dict:
        """RSS of a fresh process: idle, at the end of a window of paced streams, and after it. KiB."""
        results = {}
        shape = Shape("memory", "paced", streams, pace_ms=20, ramp_ms=300)
        for name in self.peers:
            if "paced" in self.unfit[name]:
                continue
            try:
                self.stop(name)
                server = self.start(name)
            except RuntimeError as error:
                say(f"{name}: memory not measured: {error}")
                continue
            # One request of each kind first, so that what is made on first use is there.
            self.window(name, Shape("first", "json", 1), seconds=0.2)
            idle = sample_rss(server, idle_s)
            loaded = self.window(name, shape, status=True)
            after = sample_rss(server, idle_s)
            if not loaded["ok"]:
                say(f"memory {name:14} void: {loaded['reason']}")
                results[name] = {"idle_kib": idle, "loaded_kib": None, "after_kib": after, "reason": loaded["reason"]}
                continue
            each = (loaded["rss_kib"] - idle) / streams
            results[name] = {"idle_kib": idle, "loaded_kib": loaded["rss_kib"], "after_kib": after,
                             "streams": streams, "per_stream_kib": each}
            say(f"memory {name:14} idle {idle} KiB, {streams} streams {loaded['rss_kib']} KiB, after {after} KiB")
        return results

    def streams(self, most: int) -> dict:
        """Most streams at once (20 ms pace, a new connection each) with every event there and no gap above 200 ms."""
        limit = min(most, connections_max())

        def holds(name: str, count: int) -> tuple[bool, dict]:
            shape = Shape("streams", "paced", count, pace_ms=20, once=True, ramp_ms=300)
            result = self.window(name, shape, seconds=20)
            gaps = result.get("gap_us")
            kept = result.get("completed", 0) >= 0.999 * count and result.get("failed", 1) < 0.001 * count
            return bool(kept and gaps and gaps["max"] <= 200_000), result

        results = {}
        for name in [DIRECT, *self.peers]:
            if "paced" in self.unfit.get(name, {}):
                continue
            good, bad, count = 0, None, 16
            while count <= limit:
                held, _ = holds(name, count)
                if not held:
                    bad = count
                    break
                good, count = count, count * 2
            if bad is None and good < limit:
                held, _ = holds(name, limit)
                good, bad = (limit, None) if held else (good, limit)
            # To one sixteenth: two runs of this search differ by more than that.
            while bad and bad - good > max(1, good // 16):
                middle = (good + bad) // 2
                held, _ = holds(name, middle)
                good, bad = (middle, bad) if held else (good, middle)
            result, confirmed = {}, False
            for _ in range(8):
                if good == 0:
                    break
                trials = [holds(name, good) for _ in range(3)]
                result, confirmed = trials[-1][1], all(held for held, _ in trials)
                if confirmed:
                    break
                good = good * 15 // 16
            results[name] = {"streams": good if confirmed else None, "limit": limit, "at_limit": good == limit,
                             "events_per_s": result.get("per_s"), "others_gateway": result.get("others_gateway"),
                             "others_load": result.get("others_load"), "noisy": result.get("noisy")}
            say(f"streams {name:14} {results[name]['streams']}{' (the limit here)' if good == limit else ''}")
        return results

    def ladder(self, most: int) -> dict:
        """Doubling connections, three windows a rung; the best window without any failure counts."""
        bounds = {"1ms": 1e3, "5ms": 5e3, "10ms": 1e4, "50ms": 5e4, "100ms": 1e5, "unbounded": float("inf")}
        results = {}
        for name in [DIRECT, *self.peers]:
            best: dict[str, dict] = {}
            rungs, count, stopped = [], 1, "the top of the ladder"
            while count <= min(most, connections_max()):
                windows = [self.window(name, Shape(f"ladder@{count}", "json", count)) for _ in range(3)]
                rungs.append({"connections": count, "windows": windows})
                clean = [result for result in windows if result["ok"]]
                for result in clean:
                    for bound, p99 in bounds.items():
                        if result["latency_us"]["p99"] < p99 and result["per_s"] > best.get(bound, {"per_s": 0})["per_s"]:
                            best[bound] = {"per_s": result["per_s"], "connections": count,
                                           "p99_us": result["latency_us"]["p99"], "noisy": result["noisy"]}
                top = max((result["per_s"] for result in clean), default=0)
                say(f"ladder {name:14} {count:6} connections {len(clean)}/3 clean, best {top:,.0f}/s")
                if not clean:
                    stopped = windows[-1]["reason"]
                    break
                count *= 2
            results[name] = {"best": {bound: best.get(bound) for bound in bounds}, "stopped": stopped, "rungs": rungs}
        return results


def scale(peers: dict[str, Peer], start_backend, truth: Truth, at: Arrangement, folder: Path, rounds: int) -> dict:
    """Requests/s and events/s of 1, 2, 4 ... cores, as a share of that many times one core's.

    The other half of the machine loads it: as many probes and backends as there are cores left.
    """
    cores = machine.describe()["cores"]
    steps = [count for count in (1, 2, 4, 8, 16, 32, 64) if count * 2 <= cores]
    if len(steps) < 2:
        say(f"scale: {cores} cores; 2 shards and as many load cores need 4. Only one core is measured.")
    results: dict[str, list[dict]] = {}
    for count in steps:
        step = dataclasses.replace(at, gateway_cores=list(range(cores - count, cores)),
                                   load_cores=list(range(cores - count)))
        backend = start_backend(step.load_cores)
        try:
            for name, peer in peers.items():
                bench = Bench({name: peer}, backend, truth, step, folder / f"scale{count}")
                try:
                    bench.start(name)
                    row: dict = {"cores": count}
                    for shape in (Shape("json", "json", 64 * count), Shape("burst", "burst", 64 * count)):
                        windows = [together(bench, name, shape, step) for _ in range(rounds)]
                        clean = [result["per_s"] for result in windows if result["ok"]]
                        row[shape.name] = statistics.median(clean) if clean else None
                        row[f"{shape.name}_windows"] = windows
                    base = results.get(name, [row])[0]
                    for key in ("json", "burst"):
                        known = row[key] and base[key]
                        row[f"{key}_efficiency"] = row[key] / (count * base[key]) if known else None
                    results.setdefault(name, []).append(row)
                    say(f"scale {name:14} {count} cores: json {row['json'] or 0:,.0f}/s, burst {row['burst'] or 0:,.0f} events/s")
                except (RuntimeError, OSError) as error:
                    say(f"scale {name} on {count} cores: {error}")
                finally:
                    bench.stop(name)
        finally:
            backend.stop()
    return results


def together(bench: Bench, name: str, shape: Shape, at: Arrangement) -> dict:
    """One window of several probes at once, one per gateway core, their rates added."""
    from concurrent.futures import ThreadPoolExecutor

    probes = len(at.gateway_cores)
    each = dataclasses.replace(shape, connections=shape.connections // probes)
    with ThreadPoolExecutor(probes) as pool:
        windows = list(pool.map(lambda _: bench.window(name, each), range(probes)))
    failed = [result["reason"] for result in windows if not result["ok"]]
    return {"ok": not failed, "reason": "; ".join(failed), "per_s": sum(result.get("per_s", 0) for result in windows)}


def connections_max() -> int:
    """A gateway holds two descriptors per connection, and the ephemeral ports are finite."""
    ports = (machine.read("/proc/sys/net/ipv4/ip_local_port_range") or "32768 60999").split()
    return min((fds() - 500) // 2, int(ports[1]) - int(ports[0]) - 1_000)


def sample_rss(server: servers.Server, seconds: float) -> int:
    """Median of the tree's RSS over a span, ten readings a second, KiB."""
    readings, deadline = [], time.monotonic() + seconds
    while not readings or time.monotonic() < deadline:
        readings.append(sum(machine.rss_kib(machine.read(f"/proc/{pid}/status")) for pid in server.pids()))
        time.sleep(0.1)
    return int(statistics.median(readings))


def brief(result: dict) -> str:
    if not result["ok"]:
        return f"VOID: {result['reason']}"
    cost = f"{result['cpu_us']:8.2f} us CPU/{result['unit']}" if "cpu_us" in result else " " * 22
    noise = f"others {result['others_gateway']:+.0%} {result['others_load']:+.0%}"
    return f"{result['per_s']:12,.0f} {result['unit']}s/s {cost}  {noise}{'  NOISY' if result['noisy'] else ''}"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
