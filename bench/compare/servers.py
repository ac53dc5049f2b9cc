"""Starting and stopping what is measured: pinned, logged to the run's folder, ended by pid."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import machine
from peers import Peer, Place


class Server:
    """A started peer or backend: its processes, for as long as it is open."""

    def __init__(self, name: str, address: str, commands, folder: Path, environment=None):
        self.name, self.address, self.log = name, address, folder / f"{name}.log"
        host, port = address.split(":")
        with socket.socket() as taken:
            taken.settimeout(1)
            if taken.connect_ex((host, int(port))) == 0:
                raise RuntimeError(f"{name}: something else listens on {address}")
        self.commands = [" ".join(argv) for _, argv in commands]
        self.processes = []
        with open(self.log, "ab") as log:
            for cores, argv in commands:
                pinned = ["taskset", "-c", ",".join(map(str, cores)), *argv]
                # A session of its own: a signal to the terminal ends the tool first, which then ends this.
                process = subprocess.Popen(
                    pinned,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
                self.processes.append(process)

    def wait(self, seconds: float) -> None:
        """Returns once it accepts connections; raises with the end of its log if it dies or does not."""
        host, port = self.address.split(":")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self.processes):
                break
            with socket.socket() as trial:
                trial.settimeout(1)
                if trial.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not come up on {self.address}: {self.log_end()}")

    def pids(self) -> list[int]:
        return sorted({pid for process in self.processes for pid in machine.tree(process.pid)})

    def alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def stop(self) -> None:
        """TERM to every process of the tree, then KILL to what is left; only pids seen under our own."""
        pids = self.pids()
        born = {pid: _born(pid) for pid in pids}
        for sent in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                # A pid handed to somebody else in the meantime has another time of birth.
                if born[pid] is not None and _born(pid) == born[pid]:
                    try:
                        os.kill(pid, sent)
                    except ProcessLookupError:
                        pass
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                for process in self.processes:
                    process.poll()
                if all(_born(pid) != born[pid] for pid in pids):
                    break
                time.sleep(0.02)

    def log_end(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-4:])[-600:]

    def driver_lines(self) -> list[str]:
        """What it says at its start about how it waits for sockets."""
        lines = self.log.read_text(errors="replace").splitlines()[:50]
        return [line[:200] for line in lines if "io_uring" in line or "epoll" in line][:3]


def start(peer: Peer, place: Place) -> Server:
    place.folder.mkdir(parents=True, exist_ok=True)
    server = Server(peer.name, peer.address, peer.commands(place), place.folder, peer.environment)
    try:
        server.wait(peer.start_s)
    except RuntimeError:
        server.stop()
        raise
    return server


def _born(pid: int) -> str | None:
    """Start time of a running process; none for one that has ended, zombies included."""
    stat = machine.read(f"/proc/{pid}/stat")
    if stat is None:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]
