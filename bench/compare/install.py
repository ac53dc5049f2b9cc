"""Where do the peers come from? Debian, PyPI and npm, into a cache folder outside the repository."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ringway-compare"


@dataclass(frozen=True)
class Debian:
    """A package of the system; needs root, the only source that does."""

    package: str
    binary: str

    def path(self) -> str | None:
        return shutil.which(self.binary) or shutil.which(self.binary, path="/usr/sbin:/usr/local/sbin")

    def install(self) -> None:
        _run(["apt-get", "update", "-q"])
        # The package's own service must not come up and take a port or a core.
        _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", self.package], RUNLEVEL="1")


@dataclass(frozen=True)
class Python:
    """A package of PyPI in a virtual environment of its own."""

    package: str
    binary: str

    def path(self) -> str | None:
        path = self._folder() / "bin" / self.binary
        return str(path) if path.exists() else None

    def install(self) -> None:
        _run([sys.executable, "-m", "venv", str(self._folder())])
        _run([str(self._folder() / "bin/pip"), "install", "-q", "--disable-pip-version-check", self.package])

    def version(self) -> str:
        name = self.package.split("[")[0]
        shown = subprocess.run([str(self._folder() / "bin/pip"), "show", name], capture_output=True, text=True)
        lines = [line for line in shown.stdout.splitlines() if line.startswith("Version: ")]
        return lines[0].removeprefix("Version: ") if lines else "unknown"

    def _folder(self) -> Path:
        return cache() / self.package.split("[")[0]


@dataclass(frozen=True)
class Node:
    """A package of npm with the versions of its dependencies it needs."""

    package: str
    entry: str
    manifest: str

    def path(self) -> str | None:
        path = self.folder() / "node_modules" / self.package / self.entry
        return str(path) if path.exists() and shutil.which("node") else None

    def install(self) -> None:
        self.folder().mkdir(parents=True, exist_ok=True)
        (self.folder() / "package.json").write_text(self.manifest)
        _run(["npm", "install", "--prefix", str(self.folder()), "--no-audit", "--no-fund", "--loglevel=error"])

    def folder(self) -> Path:
        return cache() / self.package.replace("@", "").replace("/", "-")


@dataclass(frozen=True)
class Built:
    """Built from this repository; the command that does it is told to whoever misses it."""

    binary: str
    command: str

    def path(self) -> str | None:
        return self.binary if os.access(self.binary, os.X_OK) else None

    def install(self) -> None:
        raise RuntimeError(f"build it: {self.command}")


def _run(argv: list[str], **variables: str) -> None:
    print("+", " ".join(argv), file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **variables}
    subprocess.run(argv, check=True, stdout=sys.stderr, env=environment, timeout=1800)
