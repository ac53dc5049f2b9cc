"""Runs a command under what a systemd unit would allow it, as far as that needs no systemd and no other file system.

    sandbox.py UNIT COMMAND...

From the unit: SystemCallFilter, RestrictAddressFamilies, RestrictNamespaces, MemoryDenyWriteExecute, NoNewPrivileges,
LimitCORE, UMask; and no capability at all. One difference on purpose: a call outside of the list kills the process,
where the unit lets it fail, so that a test sees it.
"""

import ctypes
import os
import re
import resource
import struct
import subprocess
import sys

ALLOW, KILL, NO_SUCH_CALL, NOT_PERMITTED = 0x7FFF0000, 0x80000000, 0x00050000 | 38, 0x00050000 | 1
LOAD, EQUAL, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
X86_64 = 0xC000003E
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000


def settings(path):
    """Every setting of a unit, with its values in their order."""
    found = {}
    for line in open(path):
        name, _, value = line.strip().partition("=")
        if not name.startswith("#") and value:
            found.setdefault(name, []).append(value)
    return found


def calls(name):
    """The names of the calls in a set, or the call itself."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    members = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return set().union(*(calls(member) for member in members if member and not member.startswith("#")))


def allowed(lines):
    """What remains after all lines of SystemCallFilter; the first is a list of what is allowed."""
    names = set()
    for line in lines:
        members = set().union(*(calls(word) for word in line.lstrip("~").split()))
        names = names - members if line.startswith("~") else names | members
    return names


def numbers():
    """The numbers of the kernel's calls by name, from its headers."""
    source = subprocess.run(
        ["cc", "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True
    )
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", source.stdout, re.M)}


def program(unit):
    """The filter (seccomp(2)), instruction by instruction."""
    by_name = numbers()
    code = []

    def step(operation, value, yes=0, no=0):
        code.append(struct.pack("HBBI", operation, yes, no, value))

    def argument(index):
        step(LOAD, ARGUMENTS + 8 * index)

    step(LOAD, ARCH)
    step(EQUAL, X86_64, 1, 0)
    step(RETURN, KILL)
    step(LOAD, NUMBER)
    step(AT_LEAST, 0x40000000, 0, 1)
    step(RETURN, KILL)
    if "RestrictNamespaces" in unit:
        step(EQUAL, by_name["clone3"], 0, 1)
        step(RETURN, NO_SUCH_CALL)  # its flags cannot be seen; the library falls back to clone
        step(EQUAL, by_name["clone"], 0, 5)
        argument(0)
        step(AND, NAMESPACES)
        step(EQUAL, 0, 1, 0)
        step(RETURN, KILL)
        step(RETURN, ALLOW)
        for name in ("unshare", "setns"):
            step(EQUAL, by_name[name], 0, 1)
            step(RETURN, KILL)
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        for name, mask in (("mmap", 2 | 4), ("mprotect", 4), ("pkey_mprotect", 4)):
            step(EQUAL, by_name[name], 0, 5)
            argument(2)
            step(AND, mask)
            step(EQUAL, mask, 0, 1)
            step(RETURN, KILL)
            step(RETURN, ALLOW)
    families = [FAMILIES[name] for name in " ".join(unit["RestrictAddressFamilies"]).split()]
    step(EQUAL, by_name["socket"], 0, 2 * len(families) + 2)
    argument(0)
    for family in families:
        step(EQUAL, family, 0, 1)
        step(RETURN, ALLOW)
    step(RETURN, KILL)
    for name in sorted(allowed(unit["SystemCallFilter"])):
        if name in by_name:
            step(EQUAL, by_name[name], 0, 1)
            step(RETURN, ALLOW)
    # SQLite, run as root, gives its files to the owner of the database. The unit does not run as root.
    step(EQUAL, by_name["fchown"], 0, 1)
    step(RETURN, NOT_PERMITTED)
    step(RETURN, KILL)
    return code


def confine(unit):
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(option, *arguments):
        words = [ctypes.c_ulong(argument) for argument in arguments] + [ctypes.c_ulong(0)] * (4 - len(arguments))
        return libc.prctl(option, *words)

    code = program(unit)
    if unit.get("LimitCORE") == ["0"]:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(int(unit["UMask"][0], 8))
    for capability in range(64):
        prctl(24, capability)  # PR_CAPBSET_DROP; without the right to, there is nothing to drop
    assert prctl(38, 1) == 0  # PR_SET_NO_NEW_PRIVS
    block = b"".join(code)
    text = ctypes.create_string_buffer(block, len(block))
    filter_program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(text))
    pointer = ctypes.create_string_buffer(filter_program, len(filter_program))
    if prctl(22, 2, ctypes.addressof(pointer)) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


if __name__ == "__main__":
    confine(settings(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
