"""Starts simulated GPU servers and a gateway in front of them, for tests that speak through real SDKs.

As a command, `python3 harness.py COMMAND ...`, it runs COMMAND with their addresses in the environment.
The programs are taken from RINGWAY_BIN and LOADTEST_BIN, or from target/debug.
"""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time

import cuts

ROOT = pathlib.Path(__file__).resolve().parents[2]
GATEWAY = os.environ.get("RINGWAY_BIN") or str(ROOT / "target/debug/ringway")
LOADTEST = os.environ.get("LOADTEST_BIN") or str(ROOT / "target/debug/loadtest")

KEY = "sk-clients-main"
NARROW_KEY = "sk-clients-narrow"  # may use `demo` only
SMALL_KEY = "sk-clients-small"  # whole limit of 600 tokens
LIMITED_KEYS = [f"sk-clients-limited-{number}" for number in range(24)]  # one test each
RETRY_MS = 1500  # what a second request under such a key has to wait: 60 s / 40

MODEL = "demo"
TOKENS = 12  # of every answer that is not told otherwise

# Lawful habits of servers; each has a simulator and the model `quirk-NAME`.
QUIRKS = [
    "no-done", "usage-in-finish", "ignore-stream-options", "ignore-stream", "float-vectors", "models-500",
    "model-suffix", "mixed-case-headers", "crlf-events", "no-space", "keepalive-comments", "split-writes",
    "separate-head", "close-idle:0.05",
]

# Faults on demand: the model `fault-NAME` always has this one.
FAULTS = {
    "cut": "cut-after:5",
    "cut-at-once": "cut-after:0",
    "cut-mid-event": "cut-mid-event:5",
    "reset": "reset-after:5",
    "error-record": "error-event-after:5",
    "error-first": "error-first-record",
    "busy": "status:429:7",
    "overloaded": "status:503:1",
    "broken": "status:500",
    "html": "html-502",
    "denied": "status:401",
    "refused": "status:400",
    "no-usage": "no-usage",
}


class Process:
    """A child that is stopped by its process id, and whose words are shown if it ends too early."""

    def __init__(self, name, command, log, talks=False):
        """A child that `talks` is heard with `line`; otherwise its standard output goes to the log too."""
        self.name, self.log = name, log
        with log.open("wb") as sink:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if talks else sink, stderr=sink)

    def line(self, patience=20.0):
        """The next line that it prints."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            if not selector.select(patience):
                raise RuntimeError(f"{self.name} said nothing for {patience} s\n{self.words()}")
        line = self.child.stdout.readline().decode().strip()
        if not line:
            self.child.wait(patience)
            raise RuntimeError(f"{self.name} ended with {self.child.returncode}\n{self.words()}")
        return line

    def words(self):
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self, patience=10.0):
        """Ends it with SIGTERM; its exit code. A child that does not heed is a failure, and killed."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise RuntimeError(f"{self.name} did not end within {patience} s of SIGTERM\n{self.words()}")
        finally:
            if self.child.stdout:
                self.child.stdout.close()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(condition, patience=5.0, what="the condition"):
    """Polls until `condition` returns something true, and returns it."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {patience} s; last: {value!r}")
        time.sleep(0.01)


def get(address, path, headers=None, method="GET", body=None, patience=10.0):
    """One plain request: status, headers in lower case, body."""
    connection = http.client.HTTPConnection(*split(address), timeout=patience)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


class Simulator(Process):
    """One `loadtest gpusim`."""

    def __init__(self, folder, name, *options, model=MODEL):
        command = [LOADTEST, "gpusim", "--listen", "127.0.0.1:0", "--model", model, "--step-ms", "2",
                   "--output-tokens", str(TOKENS), "--output-spread", "0", *options]
        super().__init__(f"gpusim {name}", command, folder / f"gpusim-{name}.log", talks=True)
        try:
            self.address = self.line().rsplit(" ", 1)[1]
        except BaseException:
            self.stop()
            raise

    def state(self):
        return json.loads(get(self.address, "/sim/state")[2])


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def configuration(port, admin_port, simulator, quirky, cutter):
    """The TOML of a gateway before `simulator`, the simulators in `quirky`, by the name of their quirk, and `cutter`."""
    driver = os.environ.get("RINGWAY_TEST_DRIVER", "auto")
    text = [f"""
listen = "127.0.0.1:{port}"
driver = "{driver}"
[admin]
listen = "127.0.0.1:{admin_port}"
[shards]
count = 2
pin = false
[timeouts]
drain = "2s"
[limits]
attempts = 2
[key.main]
sha256 = "{digest(KEY)}"
[key.narrow]
sha256 = "{digest(NARROW_KEY)}"
models = ["{MODEL}"]
[key.small]
sha256 = "{digest(SMALL_KEY)}"
tokens_per_minute = 600
"""]
    for number, key in enumerate(LIMITED_KEYS):
        text.append(f"""
[key.limited-{number}]
sha256 = "{digest(key)}"
requests_per_minute = {60_000 // RETRY_MS}
requests_burst = 1
""")

    def backend(name, address, model, served, aliases=()):
        # One backend for each model, so that what one test breaks is no other test's breaker.
        text.append(f"""
[backend."{name}"]
url = "http://{address}"
kind = "vllm"
[model."{model}"]
backends = [{{ name = "{name}", model = "{served}" }}]
aliases = {json.dumps(list(aliases))}
""")

    backend("sim", simulator.address, MODEL, MODEL, ["demo-latest"])
    backend("sim-slash", simulator.address, "org/demo", MODEL)
    # The same simulator, called in Google's API.
    text.append(f"""
[backend.google]
url = "http://{simulator.address}"
kind = "gemini"
health = {{ enabled = false }}
[model.google]
backends = [{{ name = "google", model = "{MODEL}" }}]
[model.google-cut]
backends = [{{ name = "google", model = "{MODEL}#cut-after:5" }}]
""")
    for name, fault in FAULTS.items():
        backend(f"fault-{name}", simulator.address, f"fault-{name}", f"{MODEL}#{fault}")
    for quirk, server in quirky.items():
        name = quirk.split(":")[0]
        backend(f"quirk-{name}", server.address, f"quirk-{name}", MODEL)
    backend(cuts.MODEL, cutter.address, cuts.MODEL, cuts.MODEL)
    text.append(f"[backend.{cuts.MODEL}.health]\nenabled = false\n")
    return "".join(text)


class Gateway(Process):
    """`ringway serve` with a configuration of its own."""

    def __init__(self, folder, make_configuration):
        port, admin_port = free_port(), free_port()
        self.address, self.admin = f"127.0.0.1:{port}", f"127.0.0.1:{admin_port}"
        self.url, self.base = f"http://{self.address}", f"http://{self.address}/v1"
        file = folder / "ringway.toml"
        file.write_text(make_configuration(port, admin_port))
        super().__init__("ringway", [GATEWAY, "serve", "--config", str(file)], folder / "ringway.log")
        try:
            until(self.ready, 20.0, "the gateway's first answer")
        except BaseException:
            with contextlib.suppress(RuntimeError):
                self.stop()
            sys.stderr.write(self.words())
            raise

    def ready(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"ringway ended with {self.child.returncode}\n{self.words()}")
        try:
            return get(self.admin, "/readyz")[0] == 200 and get(self.address, "/v1/models")[0] in (200, 401)
        except OSError:
            return False

    def metrics(self):
        """The samples of /metrics: name and labels as written -> value."""
        status, _, body = get(self.admin, "/metrics")
        assert status == 200, body
        samples = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def total(self, metric, **labels):
        """The sum of a metric's samples that carry `labels`."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        return sum(value for name, value in self.metrics().items()
                   if name.split("{")[0] == metric and all(label in name for label in wanted))


@contextlib.contextmanager
def running():
    """A simulator, one more for each quirk, a server that cuts, and a gateway in front: (gateway, simulator)."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringway-clients-")))

        def started(process):
            stack.callback(process.stop)
            return process

        simulator = started(Simulator(folder, "plain"))
        quirky = {quirk: started(Simulator(folder, quirk.split(":")[0], "--quirk", quirk)) for quirk in QUIRKS}
        cutter = started(cuts.Server())
        gateway = started(Gateway(
            folder, lambda port, admin: configuration(port, admin, simulator, quirky, cutter)))
        gateway.quirky = quirky
        yield gateway, simulator


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: harness.py COMMAND ...")
    with running() as (gateway, simulator):
        environment = dict(
            os.environ, RINGWAY_URL=gateway.url, RINGWAY_KEY=KEY, RINGWAY_NARROW_KEY=NARROW_KEY,
            RINGWAY_LIMITED_KEYS=",".join(LIMITED_KEYS), RINGWAY_RETRY_MS=str(RETRY_MS),
            RINGWAY_QUIRKS=",".join(quirk.split(":")[0] for quirk in QUIRKS), RINGWAY_TOKENS=str(TOKENS),
            RINGWAY_CUTS=json.dumps([case.told() for case in cuts.sampled()]), SIMULATOR_URL=f"http://{simulator.address}")
        code = subprocess.run(sys.argv[1:], env=environment).returncode
    sys.exit(code)


if __name__ == "__main__":
    main()
