"""Edge cases of HTTP/1.1 through Ringway and general proxies: a grid of grades, no figures. README.md explains it."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import grid
import peers as roster
import proxies

ROOT = roster.ROOT

GENERAL = ["nginx", "haproxy", "varnish", "apache2", "squid", "h2o", "lighttpd"]


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/http-grid", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--ringway", default=os.environ.get("RINGWAY_BIN") or str(ROOT / "target/debug/ringway"), metavar="PATH",
        help="the Ringway binary (target/debug/ringway)")
    add("--peers", type=names, default=GENERAL, metavar="NAMES", help=f"only these proxies ({','.join(GENERAL)})")
    add("--install", type=names, metavar="NAMES", help="install these from Debian, as root, and end")
    add("--case", type=names, metavar="CASES", help="only these rows")
    add("--why", type=names, default=[], metavar="CASES", help="only these rows, with the bytes seen at both sides")
    add("--json", metavar="FILE", help="write the grades and their reasons")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    known = roster.known("", [], "") | {peer.name: peer for peer in proxies.general()}
    if unknown := [name for name in [*options.peers, *(options.install or [])] if name not in GENERAL]:
        parser.error(f"no such proxy: {', '.join(unknown)}; there are {', '.join(GENERAL)}")
    if options.install:
        for name in options.install:
            known[name].source.install()
        return 0
    folder = Path(tempfile.mkdtemp(prefix="ringway-grid-"))
    folder.chmod(0o755)  # some proxies become another user before they open their files
    try:
        ours = proxies.OpenRingway("ringway", options.ringway, grid.free_port())
        chosen = [*(known[name] for name in options.peers), ours]
        return grid.main(chosen, ours.name, options.case, options.why, folder, options.json)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"http-grid: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
