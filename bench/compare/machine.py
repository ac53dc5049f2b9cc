"""Who used which core, and what is this machine? Reads /proc only."""

import os
import platform
import re

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all that descend from it, by pid."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(_fields(file.read())[1])
            except (OSError, ValueError, IndexError):
                continue  # ended while we looked
            children.setdefault(parent, []).append(int(name))
    found, at = [root], 0
    while at < len(found):
        found.extend(children.get(found[at], []))
        at += 1
    return sorted(found)


def cpu_s(stat: str | None) -> float:
    """utime + stime of a /proc/PID/stat text, in seconds."""
    if not stat:
        return 0.0
    fields = _fields(stat)
    return (int(fields[11]) + int(fields[12])) * TICK_S


def rss_kib(status: str | None) -> int:
    """VmRSS of a /proc/PID/status text; zero for a kernel thread or one that has ended."""
    match = re.search(r"^VmRSS:\s+(\d+) kB", status or "", re.MULTILINE)
    return int(match[1]) if match else 0


def tree_rss_kib(root: int) -> int:
    """Resident memory of a process tree. Pages shared between its processes count once for each of them."""
    return sum(rss_kib(read(f"/proc/{pid}/status")) for pid in tree(root))


def idle_s(stat: str, cores: list[int]) -> float:
    """Seconds these cores have idled, by a /proc/stat text. Idle time is kept exactly, busy time by sampling:
    what a core was busy for is therefore the wall clock less this."""
    return sum(sum(_core(stat, core)[3:5]) for core in cores) * TICK_S


def stolen_s(stat: str, cores: list[int]) -> float:
    """Seconds the host gave these cores to somebody else."""
    return sum(_core(stat, core)[7] for core in cores) * TICK_S


def describe() -> dict:
    """What a number must never be quoted without."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo") or "", re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", read("/proc/meminfo") or "", re.MULTILINE)
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": cpu[1] if cpu else platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "memory_mib": int(memory[1]) // 1024 if memory else None,
        "governor": (read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not readable").strip(),
        "congestion_control": (read("/proc/sys/net/ipv4/tcp_congestion_control") or "not readable").strip(),
        "autogroup": (read("/proc/sys/kernel/sched_autogroup_enabled") or "not readable").strip(),
    }


def read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _fields(stat: str) -> list[str]:
    """The fields behind the command's name, which may itself hold spaces: state is [0], parent [1]."""
    return stat[stat.rindex(")") + 2 :].split()


def _core(stat: str, core: int) -> list[int]:
    match = re.search(rf"^cpu{core} (.*)$", stat, re.MULTILINE)
    if not match:
        raise RuntimeError(f"core {core} is not in /proc/stat")
    return [int(field) for field in match[1].split()]
