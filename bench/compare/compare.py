"""Ringway beside other proxies on one machine: arguments, set-up, the stages, the report. README.md explains it."""

import argparse
import datetime
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import load
import machine
import measure
import peers as roster
import plot
import report
import servers
from measure import say

MEASURED = ["nginx", "haproxy", "bare-relay", "ringway"]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or roster.ROOT / "target").resolve() / "release"


def main() -> int:
    options = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The usual ways to be stopped end what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ringways = [build(text) for text in options.ringway] or [("ringway", str(TARGET / "ringway"))]
    known = roster.known(str(TARGET / "examples/bare-relay"), ringways, options.config)
    if options.install:
        return install(known, options.install)
    chosen = choose(known, options.peers, [name for name, _ in ringways])
    probe = str(TARGET / "examples/probe")
    if not os.access(probe, os.X_OK):
        raise SystemExit("the probe is not built: cargo build --release --examples")
    at = load.Arrangement(probe, options.gateway_cores, options.load_cores, options.seconds, options.warmup, options.quiet)
    os.sched_setaffinity(0, at.load_cores)
    folder = Path(tempfile.mkdtemp(prefix="ringway-compare-"))
    try:
        document = run(options, chosen, at, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.tables(document))
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=1))
    if options.plot:
        Path(options.plot).write_text(plot.page(document))
    return 0


def run(options, chosen: dict, at: load.Arrangement, folder: Path) -> dict:
    """Every stage asked for, in one document. Whatever was started has ended when it returns."""

    def start_backend(cores: list[int]) -> servers.Server:
        threads = str(max(1, len(cores) // 2))  # the other half is the probes'
        words = shlex.split(options.backend)
        words[0] = str(Path(shutil.which(words[0]) or words[0]).resolve())  # it starts in another folder
        argv = [word.replace("{address}", options.backend_address).replace("{threads}", threads) for word in words]
        backend = servers.Server("backend", options.backend_address, [(cores, argv)], folder)
        try:
            backend.wait(10)
        except RuntimeError:
            backend.stop()
            raise
        return backend

    backend = start_backend(at.load_cores)
    bench = None
    try:
        truth = load.learn(options.backend_address, backend, at)
        bench = measure.Bench(chosen, backend, truth, at, folder)
        bench.start_all()
        document = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": roster.commit(),
            "machine": machine.describe(),
            "arrangement": {
                "gateway_cores": at.gateway_cores,
                "load_cores": at.load_cores,
                "quiet": at.quiet,
                "descriptors": roster.fds(),
                "backend": options.backend,
                "response_bytes": truth.json_bytes,
                "events": truth.events,
            },
            "options": {key: value for key, value in vars(options).items() if value is not None},
            "peers": bench.about,
            "unfit": bench.unfit,
        }
        shapes = [shape for shape in measure.SHAPES if not options.shapes or shape.name in options.shapes]
        document["windows"] = bench.rounds(options.rounds, shapes)
        document["summary"] = report.summarise(document["windows"])
        if "memory" not in options.skip:
            document["memory"] = bench.memory(options.idle_seconds, options.memory_streams)
        if "streams" not in options.skip:
            document["streams"] = bench.streams(options.connections_max)
        if options.ladder:
            document["ladder"] = bench.ladder(options.connections_max)
        if options.scale:
            for name in list(bench.running):
                bench.stop(name)
            backend.stop()
            scaled = {name: peer for name, peer in chosen.items() if name not in ("litellm", "portkey")}
            document["scale"] = measure.scale(scaled, start_backend, truth, at, folder, options.rounds)
        return document
    finally:
        for name in list(bench.running) if bench else []:
            bench.stop(name)
        backend.stop()


def choose(known: dict, names: list[str], ringways: list[str]) -> dict:
    """The peers asked for that are here; each that is not is a line, never a silent gap."""
    wanted = []
    for name in names:
        wanted += ringways if name == "ringway" else [name]
    chosen = {}
    for name in dict.fromkeys(wanted):
        if name == report.DIRECT:
            continue  # always measured
        if name not in known:
            raise SystemExit(f"no peer is called {name}; known: {', '.join(known)}")
        if known[name].source.path() is None:
            how = getattr(known[name].source, "command", f"scripts/compare --install {name}")
            say(f"{name}: skipped, not here: {how}")
        elif isinstance(known[name], roster.Ringway) and not Path(known[name].config).exists():
            say(f"{name}: skipped, no {known[name].config}")
        else:
            chosen[name] = known[name]
    return chosen


def install(known: dict, names: list[str]) -> int:
    failed = 0
    for name in names:
        if name not in known:
            raise SystemExit(f"no peer is called {name}; known: {', '.join(known)}")
        try:
            if known[name].source.path() is None:
                known[name].source.install()
            print(f"{name}: {known[name].version()} at {known[name].binary()}")
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"{name}: not installed: {error}")
    return 1 if failed else 0


def build(text: str) -> tuple[str, str]:
    """`PATH` or `NAME=PATH` of one Ringway binary."""
    name, found, path = text.partition("=")
    name, path = (name, path) if found else ("ringway", text)
    return (name if name.startswith("ringway") else f"ringway-{name}", str(Path(path).resolve()))


def arguments() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [name.strip() for name in text.split(",") if name.strip()]

    def cores(text: str) -> list[int]:
        return sorted({int(core) for core in text.split(",")})

    parser = argparse.ArgumentParser(prog="scripts/compare", description=__doc__)
    add = parser.add_argument
    add("--install", type=names, metavar="PEERS", help="install these peers, and nothing else")
    add("--peers", type=names, default=MEASURED, metavar="PEERS",
        help="whom to measure (nginx,haproxy,bare-relay,ringway); direct always is")
    add("--ringway", action="append", default=[], metavar="[NAME=]PATH",
        help="a Ringway binary; twice to compare two builds (target/release/ringway)")
    add("--config", default=str(roster.ROOT / "config/bench.toml"), help="Ringway's configuration (config/bench.toml)")
    # Paced unless asked otherwise: a peer that drops the x-sim headers can then still be measured with paced events.
    simulator = f"{shlex.quote(str(TARGET / 'loadtest'))} gpusim --instant --listen {{address}} --threads {{threads}}"
    add("--backend", default=f"{simulator} --pace-ms {load.PACE_MS}", metavar="COMMAND",
        help="the backend's command; {address} is where it must listen, {threads} how many it may use")
    add("--backend-address", default="127.0.0.1:9001", metavar="ADDRESS", help="where it listens (127.0.0.1:9001)")
    add("--rounds", type=int, default=5, help="interleaved rounds (5)")
    add("--seconds", type=float, default=6.0, help="length of a window (6)")
    add("--warmup", type=float, default=1.0, help="load before each window (1)")
    add("--shapes", type=names, metavar="SHAPES", help="only these: " + ",".join(s.name for s in measure.SHAPES))
    add("--skip", type=names, default=[], metavar="STAGES", help="leave out memory, streams or both")
    add("--ladder", action="store_true", help="also the connection ladder: doubling, three windows a rung, no failure")
    add("--scale", action="store_true", help="also 1, 2, 4 ... cores, on machines that have them")
    add("--connections-max", type=int, default=16_384, help="top of ladder and streams; descriptors may end it sooner")
    add("--memory-streams", type=int, default=512, help="streams held open for the loaded RSS (512)")
    add("--idle-seconds", type=float, default=10.0, help="span of the idle and after readings of RSS (10)")
    add("--gateway-cores", type=cores, default=[1], help="the gateway's cores (1)")
    add("--load-cores", type=cores, default=[0], help="cores of backend and load (0)")
    add("--quiet", type=float, default=0.05, help="share of a core others may use before a window is noisy (0.05)")
    add("--quick", action="store_true", help="2 rounds of 2 s: does it work, never a figure to quote")
    add("--json", metavar="FILE", help="write everything measured")
    add("--plot", metavar="FILE", help="write a self-contained HTML page")
    options = parser.parse_args()
    if options.quick:
        parser.set_defaults(rounds=2, seconds=2.0, warmup=0.5, idle_seconds=2.0, memory_streams=128, connections_max=256)
        options = parser.parse_args()
    if set(options.gateway_cores) & set(options.load_cores):
        parser.error("the gateway's cores must not be the load's")
    if unknown := set(options.skip) - {"memory", "streams"}:
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"compare: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
