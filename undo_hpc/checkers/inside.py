"""Run inside of the sandbox's process: gives rights away, then becomes the program. Standard library only.

`python -I inside.py SECONDS MEGABYTES FOLDER PROGRAM DESCRIPTOR`. Says on that descriptor that it has started and what could be taken away:
'network', 'files'.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys

_NEWUSER, _NEWNET = 0x10000000, 0x40000000  # unshare(2)
_NO_NEW_PRIVS, _DEATH_SIGNAL = 38, 1  # prctl(2)
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the system calls of landlock(7), the same on all architectures
_WRITES = 0x1FF2  # every right of landlock's first version but to execute, to read files and to list folders


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Below(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def limit(seconds: int, megabytes: int) -> None:
    """Bounds on time, memory, files, and no child processes."""
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, megabytes << 20),
        (resource.RLIMIT_FSIZE, 16 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # below a limit that is there already
            # the kernel kills at the hard limit of time, and says why at the soft one
            resource.setrlimit(what, (most, most + (what == resource.RLIMIT_CPU)))


def without_network(libc: ctypes.CDLL) -> bool:
    """A network namespace of its own, which has no way out; not allowed everywhere."""
    return bool(libc.unshare(_NEWUSER | _NEWNET) == 0 or libc.unshare(_NEWNET) == 0)


def only_below(libc: ctypes.CDLL, folder: str) -> bool:
    """Nothing is written, made or removed outside of the folder (Linux 5.13 and later)."""
    rules = _Ruleset(_WRITES)
    ruleset = libc.syscall(_CREATE, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    if ruleset < 0:
        return False
    place = _Below(_WRITES, os.open(folder, os.O_PATH))
    if libc.syscall(_ADD, ruleset, 1, ctypes.byref(place), 0):
        return False
    return bool(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and libc.syscall(_RESTRICT, ruleset, 0) == 0)


def main() -> None:
    """Gives away what the program must not have, and becomes it."""
    seconds, megabytes, folder, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DEATH_SIGNAL, 9)
    taken = ["network"] * without_network(libc) + ["files"] * only_below(libc, folder)
    limit(seconds, megabytes)
    os.write(int(sys.argv[5]), " ".join(["started", *taken]).encode())
    os.close(int(sys.argv[5]))
    os.execv(sys.executable, [sys.executable, "-I", "-B", program])  # noqa: S606 -- that is what it is for


if __name__ == "__main__":
    main()
