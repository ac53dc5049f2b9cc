"""Hours of mixed load with faults on one gateway, judged at the end. Exit code 0 if everything held.

Streams, conversations, whole answers and long-held streams run beside clients that misbehave; half of the backends
answer wrongly now and then or sit behind `loadtest chaos`. The configuration is reloaded all the time; in the first
tenth of the run the program is replaced five times. Then one process serves to the end, and is watched: resident
memory, descriptors, panics, lost records. When all load has ended, the access log has to agree with what the clients
counted themselves, request by request and token by token.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import rude

ROOT = Path(__file__).resolve().parents[2]

# Half of what reaches the backend `rough` suffers one of these.
CHAOS = [
    "latency both 2ms jitter=8ms p=0.2",
    "slice down 1..40 p=0.1",
    "stall down at=200..4000 for=700ms p=0.05",
    "reset down at=0..6000 p=0.05",
    "cut down at=0..6000 p=0.05",
    "early-fin down at=1..3000 p=0.05",
    "bandwidth down 60000 p=0.05",
]

# What each of the simulated servers of `faulty` does to a tenth of its requests.
FAULTS = [
    "status:503",
    "status:429:1",
    "cut-mid-event:4",
    "reset-after:3",
    "error-first-record",
    "error-event-after:5",
    "no-usage",
    "html-502",
]

# The loads: name, options of `loadtest drive`, and whether a failed request is a failure of the gateway.
LOADS = {
    "steady": (["--model", "clean", "--rate", "20", "--output-tokens", "48"], True),
    "talks": (["--model", "clean", "--sessions", "20", "--think", "1"], True),
    "held": (["--model", "clean", "--hold", "60", "--output-tokens", "600", "--ignore-eos"], True),
    "rough": (["--model", "rough", "--rate", "15", "--output-tokens", "48"], False),
    "whole": (["--model", "rough", "--rate", "10", "--no-stream", "--output-tokens", "24"], False),
}

# What a client may see of a broken backend. Anything else is ours.
HONEST = {"cut", "error record", "status 429", "status 500", "status 502", "status 503", "status 504"}

# What has to come back to zero when all load has ended, and what has to stay there.
QUIET = [
    "ringway_connections_active",
    "ringway_exchanges_active",
    "ringway_streams_active",
    "ringway_queue_waiting",
    "ringway_backend_in_flight",
    "ringway_backend_pending_tokens",
]
NEVER = ["ringway_panics_total", "ringway_records_dropped_total", "ringway_log_lines_lost_total"]

SECRET = "rw-soak-{}-0123456789abcdef0123"
SAMPLE_SECONDS = 5
# Growth of resident memory over the second half that is taken as noise, and what is allowed beside it, in MiB an hour.
NOISE_MIB, SLOPE_MIB = 12, 4


def main() -> int:
    options = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    programs = options.built.resolve() if options.built else build(options.debug)
    folder = Path(tempfile.mkdtemp(prefix="ringway-soak-"))
    soak = Soak(programs, folder, options.seconds, options.seed)
    try:
        problems = soak.run()
    finally:
        soak.end()
        if options.keep:
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(f"FAILED: {problem}")
    print(f"{'held' if not problems else f'{len(problems)} did not hold'}, seed {options.seed}")
    return 1 if problems else 0


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=1, help="how long (1)")
    parser.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--seed", type=int, default=1, help="fixes what clients and backends do wrong (1)")
    parser.add_argument("--debug", action="store_true", help="a gateway built without optimisation")
    parser.add_argument("--built", type=Path, metavar="FOLDER", help="use the programs in FOLDER and build nothing")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs, reports and the access log")
    options = parser.parse_args()
    options.seconds = options.seconds or options.hours * 3600
    return options


def build(debug: bool) -> Path:
    profile = "dev" if debug else "release"
    subprocess.run(["cargo", "build", "--locked", "--workspace", "--profile", profile], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return target.resolve() / ("debug" if debug else "release")


class Soak:
    """What runs, where, and what it showed. Everything it starts listens on loopback, on ports of its own."""

    def __init__(self, programs: Path, folder: Path, seconds: float, seed: int):
        self.programs, self.folder, self.seconds, self.seed = programs, folder, seconds, seed
        self.children: list[subprocess.Popen] = []
        self.over = threading.Event()
        self.problems: list[str] = []
        self.samples: list[dict] = []
        self.reloads = self.upgrades = 0
        first = ports(16)
        self.clean, self.faulty, self.chaos = first, first + 2, first + 2 + len(FAULTS)
        self.data, self.admin = self.chaos + 1, self.chaos + 2
        self.pid = 0

    def run(self) -> list[str]:
        self.start_backends()
        self.configure(0)
        gateway = self.start("ringway", "ringway", "serve", "--config", str(self.folder / "ringway.toml"))
        self.pid = gateway.pid
        patience(lambda: self.ask("GET", "/readyz")[0] == 200, "the gateway is ready")
        idle = self.sample()
        began = time.monotonic()
        loads = {name: self.drive(name, flags) for name, (flags, _) in LOADS.items()}
        rude_clients = rude.Rude(self.data, SECRET.format("rude"), self.seed, self.over)
        threads = [threading.Thread(target=each, daemon=True) for each in (rude_clients.run, self.operate)]
        for thread in threads:
            thread.start()
        while (passed := time.monotonic() - began) < self.seconds:
            self.samples.append({"at": passed, **self.sample()})
            time.sleep(min(SAMPLE_SECONDS, max(self.seconds / 40, 0.5)))
        self.over.set()
        (self.folder / "samples.json").write_text(json.dumps(self.samples))
        for thread in threads:
            thread.join(60)
        for name, load in loads.items():
            if load.wait(120) != 0:
                self.problems.append(f"the load {name} ended with exit code {load.returncode}")
        self.judge_processes(idle)
        self.judge_loads()
        self.judge_rude(rude_clients)
        return self.problems

    # Set-up.

    def start(self, name: str, program: str, *arguments: str) -> subprocess.Popen:
        log = open(self.folder / f"{name}.log", "ab")
        child = subprocess.Popen([self.programs / program, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.children.append(child)
        return child

    def start_backends(self):
        engine = ["--step-ms", "10", "--output-tokens", "48", "--seed", str(self.seed)]
        self.start("clean", "loadtest", "gpusim", "--listen", at(self.clean), "--servers", "2", "--model", "m", *engine)
        for number, fault in enumerate(FAULTS):
            flags = ["--fault", fault, "--fault-share", "0.1", *engine]
            self.start(f"faulty-{number}", "loadtest", "gpusim", "--listen", at(self.faulty + number), "--model", "m", *flags)
        faults = [word for fault in CHAOS for word in ("--fault", fault)]
        flags = ["--target", at(self.clean), "--seed", str(self.seed), *faults]
        self.start("chaos", "loadtest", "chaos", "--listen", at(self.chaos), *flags)
        for port in range(self.clean, self.chaos + 1):
            patience(lambda: listens(port), f"something listens on port {port}")

    def configure(self, turn: int):
        """Writes the configuration; each turn differs from the one before."""
        backends = {"clean-1": self.clean, "clean-2": self.clean + 1, "chaos": self.chaos}
        backends |= {f"faulty-{number}": self.faulty + number for number in range(len(FAULTS))}
        rough = [name for name in backends if not name.startswith("clean")]
        text = [f'listen = "{at(self.data)}"', "[admin]", f'listen = "{at(self.admin)}"', "[access_log]"]
        text += [f'path = "{self.folder}/access.jsonl"', "[shards]", "count = 2", "pin = false"]
        text += ["[timeouts]", 'keep_alive = "5s"', 'backend_idle = "2s"', 'head = "3s"', f'between_events = "{20 + turn % 2}s"']
        for name, port in backends.items():
            text += [f"[backend.{name}]", f'url = "http://{at(port)}"', 'kind = "vllm"']
        text += ["[model.clean]", f"backends = [{served('clean-1')}, {served('clean-2')}]"]
        text += ["[model.rough]", f"backends = [{', '.join(map(served, rough))}]", 'fallbacks = ["clean"]']
        for name in [*LOADS, "rude", *(f"turn-{turn % 3}",)]:
            text += [f"[key.{name}]", f'sha256 = "{digest(SECRET.format(name))}"']
        text += ["requests_per_minute = 300", "tokens_per_minute = 20000"]
        rewritten = self.folder / "ringway.toml.new"
        rewritten.write_text("\n".join(text) + "\n")
        rewritten.rename(self.folder / "ringway.toml")

    def drive(self, name: str, flags: list[str]) -> subprocess.Popen:
        common = ["--url", f"http://{at(self.data)}", "--key", SECRET.format(name), "--seed", str(self.seed)]
        common += ["--duration", str(self.seconds), "--warmup", "0", "--drain", "60"]
        return self.start(f"drive-{name}", "loadtest", "drive", *common, *flags, "--json", str(self.folder / f"{name}.json"))

    # While it runs.

    def operate(self):
        """What operators do: reloads all the time, five upgrades in the first tenth."""
        chance, began, turn = random.Random(self.seed), time.monotonic(), 0
        upgrades = [self.seconds * share / 50 for share in range(1, 6)]
        while not self.over.wait(chance.uniform(0.5, 1.5) * min(20, self.seconds / 20)):
            turn += 1
            self.configure(turn)
            code, said = self.ask("POST", "/reload")
            self.reloads += code == 200
            if code != 200:
                self.problems.append(f"a reload was answered {code}: {said}")
            if upgrades and time.monotonic() - began > upgrades[0]:
                upgrades.pop(0)
                code, said = self.ask("POST", "/upgrade")
                if code != 200:
                    self.problems.append(f"an upgrade was answered {code}: {said}")
                    continue
                self.pid = json.loads(said)["pid"]
                self.upgrades += 1

    def ask(self, method: str, path: str) -> tuple[int, str]:
        request = urllib.request.Request(f"http://{at(self.admin)}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> dict[str, float]:
        """Each family's sum over its labels."""
        sums: dict[str, float] = {}
        for line in self.ask("GET", "/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.split("{")[0].split(" ")[0], line.rsplit(" ", 1)[1]
                sums[name] = sums.get(name, 0) + float(value)
        return sums

    def sample(self) -> dict:
        """Of the process that serves now: resident MiB and open descriptors. Of one that just ended: nothing."""
        pid = self.pid
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            files = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return {"pid": pid, "mib": None, "files": None}
        kib = int(status.split("VmRSS:")[1].split()[0])
        return {"pid": pid, "mib": kib / 1024, "files": files}

    # When it is over.

    def judge_processes(self, idle: dict):
        held = lambda: {name: self.metrics().get(name) for name in QUIET}
        if not patience(lambda: not any(held().values()), None):
            self.problems.append(f"not quiet after all load: {held()}")
        found = self.metrics()
        for name in NEVER:
            if found.get(name) != 0:
                self.problems.append(f"{name} is {found.get(name)}")
        for port in range(self.clean, self.chaos):
            state = lambda: json.load(urllib.request.urlopen(f"http://{at(port)}/sim/state", timeout=10))
            if not patience(lambda: state()["running"] + state()["waiting"] == 0, None):
                self.problems.append(f"the server on port {port} still works for clients that have left: {state()}")
        after = self.sample()
        files = lambda: self.sample()["files"]
        if not patience(lambda: files() is not None and files() <= idle["files"] + 4, None):
            self.problems.append(f"{files()} descriptors are open when all is quiet; {idle['files']} were at the start")
        last = [each for each in self.samples if each["pid"] == self.pid and each["mib"] is not None]
        watched = [each for each in last if each["at"] > self.seconds / 2]
        slope, grown = line_through([(each["at"] / 3600, each["mib"]) for each in watched])
        span, mib = watched[-1]["at"] - watched[0]["at"], [each["mib"] for each in watched]
        count = lambda name: f"{found[f'ringway_{name}_total']:.0f}"
        print(f"process:  {self.reloads} reloads, {self.upgrades} upgrades; memory was watched for the last {span:.0f} s")
        print(f"memory:   {min(mib):.1f} to {max(mib):.1f} MiB under load, {after['mib']:.1f} after it, slope {slope:+.2f} an hour")
        print(
            f"files:    {idle['files']} idle at the start, at most {max(each['files'] for each in watched)} under load, "
            f"{files()} at the end"
        )
        print(
            f"counters: panics {count('panics')}, records dropped {count('records_dropped')}, stalls {count('shard_stalls')}, "
            f"failovers {count('retries_failover')}, fallbacks {count('fallbacks')}"
        )
        if grown > NOISE_MIB + SLOPE_MIB * self.seconds / 3600:
            self.problems.append(f"resident memory grew by {grown:.1f} MiB")
        if self.upgrades != 5:
            self.problems.append(f"{self.upgrades} of 5 upgrades happened")

    def judge_loads(self):
        """What clients counted against what was logged, key by key."""
        logged: dict[str, dict] = {}
        numbers, lines = set(), 0
        with open(self.folder / "access.jsonl") as log:
            for text in log:
                line, lines = json.loads(text), lines + 1
                numbers.add(line["request_id"])
                whole = line["status"] == 200 and line["error"] is None
                tally = logged.setdefault(line["key"], {"whole": 0, "other": 0, "tokens": 0})
                tally["whole" if whole else "other"] += 1
                if whole and not line["estimated"]:
                    tally["tokens"] += line["output_tokens"] or 0
        if len(numbers) != lines:
            self.problems.append(f"{lines} lines of the log have {len(numbers)} request ids")
        for name, (_, strict) in LOADS.items():
            report = json.loads((self.folder / f"{name}.json").read_text())
            tally = logged.get(name, {"whole": 0, "other": 0, "tokens": 0})
            print(
                f"{name + ':':9} {report['sent']} sent, {report['good']} good, failures {report['failures'] or 'none'}; "
                f"logged {tally['whole']} whole, {tally['other']} other; "
                f"tokens {report['completion_tokens']} seen, {tally['tokens']} logged"
            )
            if not report["good"]:
                self.problems.append(f"{name}: no request went well")
            if strict and report["failed"]:
                self.problems.append(f"{name}: {report['failed']} requests failed: {report['failures']}")
            if odd := set(report["failures"]) - HONEST:
                self.problems.append(f"{name}: {sorted(odd)} is nothing a client may see")
            if report["held"]:
                continue  # its streams outlive the window, so its counts are not the log's
            if report["good"] != tally["whole"] or report["completion_tokens"] != tally["tokens"]:
                self.problems.append(f"{name}: what clients saw and what was logged differ")
        print(f"log:      {lines} lines, each with a request id of its own")

    def judge_rude(self, clients: "rude.Rude"):
        print(f"rude:     {clients.said()}")
        self.problems += clients.problems

    def end(self):
        """Ends what was started, and what replaced it."""
        self.over.set()
        if self.pid and self.pid not in {child.pid for child in self.children}:
            try:
                os.kill(self.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        for child in self.children:
            child.terminate()
        for child in self.children:
            try:
                child.wait(40)
            except subprocess.TimeoutExpired:
                child.kill()


def at(port: int) -> str:
    return f"127.0.0.1:{port}"


def served(backend: str) -> str:
    return f'{{ name = "{backend}", model = "m" }}'


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports(count: int) -> int:
    """The first of `count` neighbouring ports below the ephemeral ones that nothing listens on."""
    for first in range(20_000, 30_000, count):
        if not any(listens(port) for port in range(first, first + count)):
            return first
    raise SystemExit("soak: no free ports between 20000 and 30000")


def patience(holds, wanted: str | None, seconds: float = 60) -> bool:
    """Waits until it holds. Gives up with an error if something is `wanted`, else with False."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            if wanted:
                raise SystemExit(f"soak: not so after {seconds} s: {wanted}")
            return False
        time.sleep(0.2)
    return True


def line_through(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: the slope, and by how much the line rises over the points."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return slope, slope * (points[-1][0] - points[0][0])


if __name__ == "__main__":
    sys.exit(main())
