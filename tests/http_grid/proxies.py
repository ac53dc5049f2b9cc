"""Who else is in the grid? General proxies of Debian, each in front of one backend, as near to its defaults as that allows.

What is set beyond a default is where it runs, and that it keeps connections to the backend and goes on asking it
after bad answers: on a connection of its own nobody could receive another's answer, and a case would hide the next.
"""

import os
import re

from install import Built, Debian
from peers import Peer, Place, run_text


class Varnish(Peer):
    def __init__(self):
        super().__init__("varnish", 8091, Debian("varnish", "varnishd"), start_s=30.0)

    def commands(self, place: Place):
        host, port = place.backend.split(":")
        vcl = f'vcl 4.1;\nbackend default {{ .host = "{host}"; .port = "{port}"; }}\n'
        argv = [self.binary(), "-F", "-j", "none", "-a", self.address, "-f", place.write("default.vcl", vcl)]
        return [(place.cores, argv + ["-n", str(place.folder / "varnish"), "-s", "malloc,32m"])]

    def version(self):
        return re.search(r"varnish-([0-9.]+)", run_text([self.binary(), "-V"]))[1]


class Apache(Peer):
    def __init__(self):
        super().__init__("apache2", 8092, Debian("apache2", "apache2"))

    def commands(self, place: Place):
        modules = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
            for name in ("mpm_event", "authz_core", "proxy", "proxy_http")
        )
        # retry=0: otherwise a backend that failed once is not asked for a minute.
        config = f"""{modules}
ServerRoot {place.folder}
DefaultRuntimeDir {place.folder}
PidFile {place.folder}/apache.pid
ErrorLog {place.folder}/error.log
ServerName gw.test
Listen {self.address}
{"User www-data" if os.geteuid() == 0 else ""}
{"Group www-data" if os.geteuid() == 0 else ""}
ProxyPass / http://{place.backend}/ retry=0
"""
        return [(place.cores, [self.binary(), "-DFOREGROUND", "-f", place.write("apache.conf", config)])]

    def version(self):
        return re.search(r"Apache/([0-9.]+)", run_text([self.binary(), "-v"]))[1]


class Squid(Peer):
    def __init__(self):
        super().__init__("squid", 8093, Debian("squid", "squid"), start_s=30.0)

    def commands(self, place: Place):
        host, port = place.backend.split(":")
        place.folder.chmod(0o777)  # it becomes another user first
        config = f"""
http_port {self.address} accel defaultsite=gw.test
cache_peer {host} parent {port} 0 no-query no-digest no-netdb-exchange originserver connect-fail-limit=1000000
http_access allow all
cache deny all
access_log none
cache_log {place.folder}/cache.log
pid_filename {place.folder}/squid.pid
coredump_dir {place.folder}
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname gw.test
"""
        return [(place.cores, [self.binary(), "-N", "-f", place.write("squid.conf", config)])]

    def version(self):
        return re.search(r"Version ([0-9.]+)", run_text([self.binary(), "-v"]))[1]


class H2o(Peer):
    def __init__(self):
        super().__init__("h2o", 8094, Debian("h2o", "h2o"))

    def commands(self, place: Place):
        host, port = self.address.split(":")
        config = f"""
listen: {{ host: {host}, port: {port} }}
{"user: root" if os.geteuid() == 0 else ""}
num-threads: {len(place.cores)}
pid-file: {place.folder}/h2o.pid
proxy.timeout.keepalive: 300000
hosts:
  default:
    paths:
      /:
        proxy.reverse.url: "http://{place.backend}/"
"""
        return [(place.cores, [self.binary(), "-c", place.write("h2o.yaml", config)])]

    def version(self):
        return re.search(r"version ([0-9.]+)", run_text([self.binary(), "-v"]))[1]


class Lighttpd(Peer):
    def __init__(self):
        super().__init__("lighttpd", 8095, Debian("lighttpd", "lighttpd"))

    def commands(self, place: Place):
        (host, port), (listen, at) = place.backend.split(":"), self.address.split(":")
        config = f"""
server.modules = ( "mod_proxy" )
server.document-root = "{place.folder}"
server.bind = "{listen}"
server.port = {at}
server.errorlog = "{place.folder}/error.log"
proxy.server = ( "" => ( ( "host" => "{host}", "port" => {port} ) ) )
"""
        return [(place.cores, [self.binary(), "-D", "-f", place.write("lighttpd.conf", config)])]

    def version(self):
        return re.search(r"lighttpd/([0-9.]+)", run_text([self.binary(), "-v"]))[1]


class OpenRingway(Peer):
    """Ringway as any client may ask it: no keys, one model."""

    def __init__(self, name: str, binary: str, admin_port: int):
        super().__init__(name, 8096, Built(binary, "cargo build --release"))
        self.admin_port = admin_port

    def commands(self, place: Place):
        config = f"""
listen = "{self.address}"
admin = {{ listen = "127.0.0.1:{self.admin_port}" }}
shards = {{ cores = [{place.cores[0]}] }}
[backend.origin]
url = "http://{place.backend}"
health = {{ enabled = false }}
[model.m]
backends = ["origin"]
"""
        return [(place.cores, [self.binary(), "serve", "--config", place.write(f"{self.name}.toml", config)])]

    def version(self):
        return run_text([self.binary(), "--version"]).strip() or "unknown"


def general() -> list[Peer]:
    return [Varnish(), Apache(), Squid(), H2o(), Lighttpd()]
